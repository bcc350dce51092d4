"""Stratified levels."""

import torch
from torch import Tensor

from registry.levels import LEVELS
from registry.path import NoisePath


@LEVELS.register("stratified")
class Stratified:
    """One random offset for evenly spaced levels, so that each batch covers the path (Kingma et al. 2021, appendix I.1)."""

    def __init__(self, path: NoisePath) -> None:
        self.path, self.top = path, path.steps - 1

    def __call__(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        offset = torch.rand(1, generator=rng, dtype=torch.float64, device=rng.device)
        place = (offset + torch.arange(count, device=rng.device) / count) % 1
        # Shuffled, so that a slice of the batch (accumulation, ranks) still spans the whole path.
        place = place[torch.randperm(count, generator=rng, device=rng.device)]
        return place * self.top, torch.ones_like(place)

    def density(self, level: Tensor) -> Tensor:
        """Over log SNR, [B]."""
        return self.path.uniform_density(level)
