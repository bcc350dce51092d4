"""Levels whose sigma is lognormal."""

import math

import torch
from torch import Tensor

from registry.levels import LEVELS
from registry.options import Positive
from registry.path import NoisePath


@LEVELS.register("lognormal")
class Lognormal:
    """ln(sigma / alpha) normal, as EDM trains (Karras et al. 2022, table 1: P_mean, P_std), kept between the path's ends."""

    def __init__(self, path: NoisePath, *, mean: float = -1.2, std: Positive = 1.2) -> None:
        self.path, self.mean, self.std = path, mean, std

    def __call__(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        z = torch.randn(count, generator=rng, dtype=torch.float64, device=rng.device)
        level = self.path.level(-2 * (self.mean + self.std * z))
        return level, torch.ones_like(level)

    def density(self, level: Tensor) -> Tensor:
        """Over log SNR, [B]: normal, of mean -2 `mean` and deviation 2 `std`; infinite at the ends, where the tails go."""
        z = (self.path.log_snr(level) + 2 * self.mean) / (2 * self.std)
        found = torch.exp(-(z**2) / 2) / (2 * self.std * math.sqrt(2 * math.pi))
        return torch.where((level <= 0) | (level >= self.path.steps - 1), torch.inf, found)
