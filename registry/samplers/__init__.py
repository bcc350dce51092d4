"""Samplers: from noise to an image. A part is called with `(denoise, grid, noise)` and gives x_0 [B, C, H, W].

`denoise(x, level)` gives a `Denoised`; `grid` walks from the noisiest chosen level to the clean image; `noise()` gives the
next standard normal tensor [B, C, H, W], of which the first is the starting point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from registry.path import NoisePath
from registry.registry import Registry, stock
from registry.traits import Options, Traits
from registry.variances import Variance


class Denoised(NamedTuple):
    """What the network makes of x_t: x0 and eps with x_t = alpha x0 + sigma eps, and channels for the variance."""

    x0: Tensor
    eps: Tensor
    extra: Tensor | None


NO_SIGNAL = 1e-12  # an alpha below it is that of pure noise


class Denoise(Protocol):
    """What the network makes of x [B, C, H, W] at a level, on the way to the level `to` where it takes one."""

    def __call__(self, x: Tensor, level: Tensor, to: Tensor | None = None) -> Denoised: ...


Noise = Callable[[], Tensor]


class Step(NamedTuple):
    """One reverse step t -> s: the level of t, alpha and sigma of both, float64 scalars on the CPU, and the level of s.

    The last step ends at the clean image, alpha 1 and sigma 0, which has no level. A scalar times an image keeps the image's
    precision: a tensor without dimensions never promotes one that has some.
    """

    level: Tensor
    alpha_t: Tensor
    sigma_t: Tensor
    alpha_s: Tensor
    sigma_s: Tensor
    level_s: Tensor | None

    @property
    def h(self) -> Tensor:
        """The growth of log(alpha / sigma), lambda_s - lambda_t (Lu et al. 2022b); infinite where the end is clean."""
        return torch.log(self.alpha_s / self.sigma_s) - torch.log(self.alpha_t / self.sigma_t)

    @property
    def from_noise(self) -> bool:
        """Whether the step begins where no signal is left."""
        return bool(self.alpha_t < NO_SIGNAL)

    @property
    def is_finite(self) -> bool:
        """Whether both ends have signal and noise."""
        return bool(self.sigma_s > 0) and not self.from_noise


@dataclass(frozen=True)
class Grid:
    """The path, the chosen levels [n], noisiest first, and the variance of a stochastic step.

    The levels lie on the CPU, wherever the images do: what a sampler asks of them never waits for an accelerator.
    """

    path: NoisePath
    levels: Tensor
    variance: Variance

    def __len__(self) -> int:
        return len(self.levels)

    def start(self, noise: Tensor) -> Tensor:
        """The starting point: noise of the size that the path gives it at the first level."""
        return noise * self.path.start_std(self.levels[0])

    def __iter__(self) -> Iterator[Step]:
        alpha, sigma = self.path.at(self.levels)
        # The walk ends at the clean image: alpha 1, sigma 0.
        alpha = torch.cat([alpha, alpha.new_ones(1)])
        sigma = torch.cat([sigma, sigma.new_zeros(1)])
        for i, level in enumerate(self.levels):
            below = self.levels[i + 1] if i + 1 < len(self) else None
            yield Step(level, alpha[i], sigma[i], alpha[i + 1], sigma[i + 1], below)


@dataclass(frozen=True)
class SamplerTraits(Traits):
    """What a sampler declares: its order of convergence, whether it takes its noise from `grid.variance`, and what it takes.

    The order may depend on the options; that of a stochastic sampler is the one it has without noise. `takes` are the kinds
    of network that it works with, as objectives declare theirs (registry/objectives).
    """

    order: int | Callable[[Options], int] = 1
    uses_variance: bool = False
    takes: frozenset[str] = frozenset({"denoiser"})

    def order_with(self, options: Options) -> int:
        """The order of convergence with these options."""
        return self.order if isinstance(self.order, int) else self.order(options)


Sampler = Callable[[Denoise, Grid, Noise], Tensor]

SAMPLERS: Registry[Sampler, SamplerTraits] = Registry("sampler", ("denoise", "grid", "noise"), SamplerTraits())

stock(__name__, __path__)
