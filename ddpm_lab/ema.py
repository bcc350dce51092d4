"""Exponential moving average of the weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class ExponentialAverage:
    """An average whose memory halves every `half_life` images.

    While the run is young the half-life is at most `ramp` of the images seen, so the average neither starts as noise nor
    drags the initialisation along (Karras et al. 2022, the ramp-up of EDM's training loop). `ramp` None: no warm-up.
    """

    def __init__(self, network: nn.Module, half_life: float, ramp: float | None) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.half_life = half_life
        self.ramp = ramp

    @torch.no_grad()
    def update(self, network: nn.Module, images: int, batch: int) -> None:
        """Take in the weights after a step of `batch` images, `images` seen in all."""
        half_life = self.half_life if self.ramp is None else min(self.half_life, self.ramp * images)
        decay = 0.5 ** (batch / half_life) if half_life > 0 else 0.0
        averages: list[Tensor] = list(self.network.parameters())
        values: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(averages, values, 1 - decay)
        for average, value in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(value)
