"""How much a sampler makes of the network's errors on the levels that it visits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from registry.samplers import Denoise, Denoised, Grid, Noise


class Amplification(NamedTuple):
    """The factor, the number of the evaluation before which it is reached, and whether steps add noise."""

    factor: float
    evaluation: int
    stochastic: bool


def amplification(sampler: Callable[[Denoise, Grid, Noise], Tensor], grid: Grid) -> Amplification:
    """The weights with which the estimates of x_0 so far enter x_t, in magnitude, against the size of x_t; the largest.

    A sampler is linear in the estimates, so its own weights are found by giving it a unit vector each time. A walk that only
    mixes them stays near 1. Steps of several orders extrapolate: where the log SNR jumps after small steps the weights are
    large and of both signs; and where noise is added, the estimates differ and do not cancel.
    """
    columns = 4 * len(grid)  # as many evaluations are told apart
    found, seen, noises = [0.0], 0, 0

    def denoise(x: Tensor, level: Tensor, to: Tensor | None = None) -> Denoised:
        nonlocal seen
        alpha, sigma = grid.path.at(level)
        found.append(float(x.abs().sum() / (alpha**2 + sigma**2).sqrt()))
        x0 = torch.zeros_like(x)
        x0[seen : seen + 1] = 1
        seen += 1
        return Denoised(x0, (x - alpha * x0) / sigma, torch.zeros_like(x))

    def noise() -> Tensor:
        nonlocal noises
        noises += 1
        return torch.zeros(columns, 1, 1, 1, dtype=torch.float64)

    sampler(denoise, grid, noise)
    worst = max(range(len(found)), key=found.__getitem__)
    return Amplification(found[worst], worst, noises > 1)
