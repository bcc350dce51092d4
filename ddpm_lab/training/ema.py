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
        # Looked up once: walking the modules takes as long as the arithmetic.
        self._weights: tuple[list[Tensor], list[Tensor]] = list(self.network.parameters()), list(network.parameters())
        self._buffers: tuple[list[Tensor], list[Tensor]] = list(self.network.buffers()), list(network.buffers())

    @torch.no_grad()
    def update(self, images: int, batch: int) -> None:
        """Take in the other network's weights after a step of `batch` images, `images` seen in all."""
        torch._foreach_lerp_(*self._weights, 1 - self.decay(images, batch))
        for average, value in zip(*self._buffers, strict=True):
            average.copy_(value)
