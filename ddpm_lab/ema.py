"""Moving averages of the weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from registry.averages import Decay


class Average:
    """A network whose weights are a moving average of another's."""

    def __init__(self, network: nn.Module, decay: Decay) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, images: int, batch: int) -> None:
        """Take in the weights after a step of `batch` images, `images` seen in all."""
        averages: list[Tensor] = list(self.network.parameters())
        values: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(averages, values, 1 - self.decay(images, batch))
        for average, value in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(value)
