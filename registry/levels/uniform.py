"""Uniform levels."""

import torch
from torch import Tensor

from registry.levels import LEVELS
from registry.path import NoisePath


@LEVELS.register("uniform")
class Uniform:
    """Independent levels, uniform over [0, T - 1] (Ho et al. 2020, algorithm 1, with t made continuous)."""

    def __init__(self, path: NoisePath) -> None:
        self.path, self.top = path, path.steps - 1

    def __call__(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        place = torch.rand(count, generator=rng, dtype=torch.float64, device=rng.device)
        return place * self.top, torch.ones_like(place)

    def density(self, level: Tensor) -> Tensor:
        """Over log SNR, [B]."""
        return self.path.uniform_density(level)
