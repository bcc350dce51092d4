"""The model in training as an objective sees it: `registry.objectives.Learner`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from ddpm_lab.diffusion.model import Model, Objective
from ddpm_lab.diffusion.process import Network
from ddpm_lab.diffusion.vlb import bound_term
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.seeding import generator
from registry.objectives import Batch
from registry.path import NoisePath
from registry.placing import sent
from registry.samplers import Denoised
from registry.targets import Target


@dataclass(frozen=True)
class Moment:
    """Where in the training a step is, and which of its parts: all that its random numbers depend on."""

    seed: int
    step: int
    progress: float  # the share of the training that is done
    count: int  # images of the global batch
    part: int = 0
    parts: int = 1  # that the process's share is worked on in


START = Moment(seed=0, step=0, progress=0.0, count=0)


@dataclass(frozen=True)
class ModelLearner:
    """A model with its network as the step calls it (`parallel`: by way of the other processes), and its teacher."""

    model: Model
    objective: Objective
    parallel: Network
    averaged: nn.Module | None
    moment: Moment

    @property
    def path(self) -> NoisePath:
        return self.model.diffusion.path

    @property
    def target(self) -> Target:
        return self.model.diffusion.target

    @property
    def progress(self) -> float:
        return self.moment.progress

    def point(self, level: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.diffusion.point(level)

    def predict(self, x_t: Tensor, level: Tensor, y: Tensor | None, to: Tensor | None = None) -> Tensor:
        estimate = None
        if self.model.diffusion.self_conditioning:
            # Half of the images are shown what the network makes of them unaided (Chen et al. 2023, section 3.2).
            shown = sent(self.uniform("self-conditioning") < 0.5, x_t.device)[:, None, None, None]
            x0, _ = self.split(self.frozen(x_t, level, y, to), x_t, level)
            estimate = torch.where(shown, x0, torch.zeros_like(x0))
        return self.model.diffusion.predict(self.parallel, x_t, level, y, to, estimate)

    @torch.no_grad()
    def frozen(self, x_t: Tensor, level: Tensor, y: Tensor | None, to: Tensor | None = None) -> Tensor:
        network = self.model.network
        training = network.training
        network.eval()  # without dropout, and without what a network does to its own weights in training, as EDM2's does
        try:
            return self.model.diffusion.predict(network, x_t, level, y, to)
        finally:
            network.train(training)

    @torch.no_grad()
    def teacher(self, x_t: Tensor, level: Tensor, y: Tensor | None, to: Tensor | None = None) -> Tensor:
        if self.averaged is None:
            raise AttributeError("this objective declares no teacher; see registry/objectives/__init__.py")
        return self.model.diffusion.predict(self.averaged, x_t, level, y, to)

    def split(self, output: Tensor, x_t: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        return self.target.split(output[:, : x_t.shape[1]], x_t, *self.point(level))

    def loss(self, output: Tensor, x0: Tensor, eps: Tensor, x_t: Tensor, batch: Batch, level: Tensor | None = None) -> Tensor:
        level = batch.level if level is None else level
        diffusion, variance, objective, channels = self.model.diffusion, self.model.variance, self.objective, x_t.shape[1]
        alpha, sigma = self.point(level)
        prediction, extra = output[:, :channels], output[:, channels:]
        compared, target = prediction, diffusion.target.of(x0, eps, alpha, sigma)
        if objective.space is not None:
            compared = objective.space.of(*diffusion.target.split(prediction, x_t, alpha, sigma), alpha, sigma)
            target = objective.space.of(x0, eps, alpha, sigma)
        loss = self.distance(compared, target)
        if isinstance(objective.weighting, nn.Module):
            log_variance = objective.weighting(*diffusion.snr(level))
            loss = loss / log_variance.exp() + log_variance  # Karras et al. 2024, EDM2, appendix B
        else:
            loss = sent(objective.weight(diffusion, level, batch.importance), loss.device) * loss
        if variance.bound:
            # Only the variance learns from the bound (Nichol & Dhariwal 2021, section 3.1).
            seen = Denoised(*diffusion.target.split(prediction.detach(), x_t, alpha, sigma), extra)
            weight = variance.bound * objective.bound_weight(diffusion.path, level, batch.importance)
            loss = loss + sent(weight, loss.device) * bound_term(diffusion, variance, x0, x_t, level, seen)
        return loss

    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.objective.loss(prediction, target).flatten(1).mean(dim=1)  # [B, C, H, W] -> [B]

    def derivative(self, function: Callable[[Tensor], Tensor], level: Tensor) -> Tensor:
        # Fused attention has no forward-mode derivative, and autocast leaves the derivatives of a layer behind in float32. The
        # network is called without the wrapper that brings the processes together, which would miss the call; nothing of it is
        # to be averaged over them.
        exact = torch.autocast(self.model.diffusion.device.type, enabled=False)
        with torch.no_grad(), exact, sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
            found = function(forward_ad.make_dual(level, torch.ones_like(level)))
            value, tangent = forward_ad.unpack_dual(found)
        return torch.zeros_like(value) if tangent is None else tangent

    def levels(self, purpose: str) -> Tensor:
        level, _ = self.objective.levels(self.moment.count, self._rng(purpose))
        return self._here(level)

    def uniform(self, purpose: str) -> Tensor:
        rng = self._rng(purpose)
        return self._here(torch.rand(self.moment.count, generator=rng, device=rng.device, dtype=torch.float64))

    def _rng(self, purpose: str) -> torch.Generator:
        return generator(self.moment.seed, purpose, self.moment.step, device=self.model.diffusion.exact)

    def _here(self, all_: Tensor) -> Tensor:
        """This process's share of what belongs to the global batch, and of that the part that is worked on."""
        return distributed.share_of(all_).chunk(self.moment.parts)[self.moment.part]
