"""Levels whose logit is normal."""

import math

import torch
from torch import Tensor

from registry.levels import LEVELS
from registry.options import Positive
from registry.path import NoisePath


@LEVELS.register("logit_normal")
class LogitNormal:
    """Most of them in the middle of the path: level = (T - 1) sigmoid(normal) (Esser et al. 2024, eq. 19)."""

    def __init__(self, path: NoisePath, *, mean: float = 0.0, std: Positive = 1.0) -> None:
        self.path, self.top, self.mean, self.std = path, path.steps - 1, mean, std

    def __call__(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        z = torch.randn(count, generator=rng, dtype=torch.float64, device=rng.device)
        return self.top * torch.sigmoid(self.mean + self.std * z), torch.ones_like(z)

    def density(self, level: Tensor) -> Tensor:
        """Over log SNR, [B]: that of the share u of the path (Esser et al. 2024, eq. 19) against that of a uniform one."""
        u = level.double() / max(self.top, 1)
        z = (torch.logit(u) - self.mean) / self.std
        share = torch.exp(-(z**2) / 2) / (self.std * math.sqrt(2 * math.pi) * u * (1 - u))
        return share.nan_to_num(0.0) * self.path.uniform_density(level)
