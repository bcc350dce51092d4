"""Levels whose logit is normal."""

import torch
from torch import Tensor

from registry.levels import LEVELS
from registry.options import Positive
from registry.path import NoisePath


@LEVELS.register("logit_normal")
class LogitNormal:
    """Most of them in the middle of the path: level = (T - 1) sigmoid(normal) (Esser et al. 2024, eq. 19)."""

    def __init__(self, path: NoisePath, *, mean: float = 0.0, std: Positive = 1.0) -> None:
        self.top, self.mean, self.std = path.steps - 1, mean, std

    def __call__(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        draw = torch.randn(count, generator=rng, dtype=torch.float64, device=rng.device)
        return self.top * torch.sigmoid(self.mean + self.std * draw), torch.ones_like(draw)
