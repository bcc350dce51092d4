"""The records of a model, an objective and a sampling procedure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ddpm_lab.diffusion.process import Diffusion, Network
from registry.averages import Decay
from registry.couplings import Coupling
from registry.datasets import ImageSet
from registry.errors import BadInput
from registry.guidance import ConditionalDenoise
from registry.levels import KnownLevels, Levels
from registry.losses import Loss
from registry.objectives import ImageLoss
from registry.options import Side
from registry.path import NoisePath
from registry.samplers import Denoise, Grid, Sampler
from registry.targets import Target
from registry.variances import Variance
from registry.weightings import Weighting, per_log_snr


@dataclass(frozen=True)
class DataShape:
    """What of the data the network is built for; kept in the run's folder, so that a run needs no data to be sampled."""

    name: str
    image_shape: tuple[Side, Side, Side]  # C, H, W
    class_names: tuple[str, ...] | None
    std: float
    train_hash: str
    license: str = "unknown"

    @classmethod
    def of(cls, data: ImageSet) -> DataShape:
        return cls(data.name, data.image_shape, data.class_names, data.std, data.train.hash, data.license)


@dataclass(frozen=True)
class Model:
    """The objects that sampling needs: mathematics and network."""

    diffusion: Diffusion
    network: nn.Module
    variance: Variance
    classes: int | None  # of the network; None where it is unconditional
    denoises: bool = True  # whether it was trained to predict noise that is independent of the image, as held-out metrics ask

    @property
    def parameters(self) -> int:
        """Trainable numbers of the network."""
        return sum(parameter.numel() for parameter in self.network.parameters())


@dataclass(frozen=True)
class Objective:
    """The objects that training needs besides."""

    levels: Levels
    loss: Loss
    weighting: Weighting | nn.Module  # a module is learned with the network
    compute: ImageLoss  # the loss of each image [B], which may use the three above
    space: Target | None = None  # what the loss compares; None: the network's own target
    coupling: Coupling | None = None  # None: each image with the noise that was sampled for it
    teacher: Decay | None = None  # how the average forgets that the objective learns from
    smooth_teacher: bool = False  # whether that is an average of the run's average

    def density(self, level: Tensor, importance: Tensor) -> Tensor:
        """The density over log SNR [B] of the levels as the step weighs them, by their importance.

        Raises:
            BadInput: the part does not give it.
        """
        if not isinstance(self.levels, KnownLevels):
            raise BadInput(
                f"levels: {type(self.levels).__name__} has no density(level), by which a weighting over log SNR and the"
                " bound of a learned variance are divided; give it one (docs/adding-a-part.md), or take uniform levels"
            )
        return self.levels.density(level) * importance

    def weight(self, diffusion: Diffusion, level: Tensor, importance: Tensor) -> Tensor:
        """The weight of each image's loss [B], float32, besides its importance."""
        weighting = self.weighting
        assert not isinstance(weighting, nn.Module)  # a learned one gives no weight
        density = self.density(level, importance) if per_log_snr(weighting) else None
        return diffusion.weight(weighting, level, density, self.space)

    def bound_weight(self, path: NoisePath, level: Tensor, importance: Tensor) -> Tensor:
        """The weight [B], float32, of each term of the variational bound, besides its importance.

        It is 1 over the density of the levels, over which the bound is an integral; 1 on a path of one level.
        """
        if path.steps == 1:
            return torch.ones_like(level, dtype=torch.float32)
        return (-1 / (self.density(level, importance) * path.log_snr_slope(level))).float()


@dataclass(frozen=True)
class Procedure:
    """How images are sampled: the sampler with its options, on its levels, with its guidance."""

    sampler: Sampler
    guidance: Callable[[ConditionalDenoise], ConditionalDenoise]
    grid: Grid
    clip: bool | float

    def denoise(self, diffusion: Diffusion, network: Network, y: Tensor | None) -> Denoise:
        """What its sampler calls for images of the classes y [B], or of none."""
        estimates: list[Tensor] | None = [] if diffusion.self_conditioning else None
        return diffusion.sampling(
            self.guidance(diffusion.conditional(network, None, estimates)), y, self.clip,
            lambda to: self.guidance(diffusion.conditional(network, to, estimates)), estimates,
        )  # fmt: skip
