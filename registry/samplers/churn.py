"""Churn: noise that is put back before a step, so that a sampler of the flow's equation corrects itself."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from registry.samplers import Grid, Noise, Step

TRIAL = {"churn": 4.0, "s_min": 0.1, "s_max": 5.0}  # with which each of these options does something


class Churn(NamedTuple):
    """S_churn, S_min, S_max and S_noise of Karras et al. 2022, algorithm 2; sigma / alpha stands for their sigma."""

    amount: float
    low: float
    high: float
    noise: float

    def __call__(self, x: Tensor, step: Step, grid: Grid, noise: Noise) -> tuple[Tensor, Step]:
        """x at a noisier level than the step begins at, and the step from there (lines 4 to 6); never beyond the path's end."""
        if not self.amount or step.from_noise:
            return x, step
        ratio = step.sigma_t / step.alpha_t
        if not self.low <= float(ratio) <= self.high:
            return x, step
        gamma = min(self.amount / len(grid), math.sqrt(2) - 1)
        level = grid.path.level(-2 * torch.log(ratio * (1 + gamma)))
        alpha, sigma = grid.path.at(level)
        added = ((sigma / alpha) ** 2 - ratio**2).clamp(min=0).sqrt() * self.noise
        x = alpha * (x / step.alpha_t + added * noise())
        return x, step._replace(level=level, alpha_t=alpha, sigma_t=sigma)
