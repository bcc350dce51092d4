"""How a network is told the noise label and the class."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Sinusoid(nn.Module):
    """Sines, then cosines, of a label at geometrically spaced frequencies (Vaswani et al. 2017, section 3.5).

    The frequencies fall from 1 towards 1 / 10,000, which is one of them where `closed` (as in DDPM and diffusers' DiT).
    """

    frequency: Tensor

    def __init__(self, frequencies: int, closed: bool = False) -> None:
        super().__init__()
        half = frequencies // 2
        logarithm = -math.log(10_000) * torch.arange(half) / max(half - closed, 1)
        self.register_buffer("frequency", logarithm.exp(), persistent=False)

    def forward(self, label: Tensor) -> Tensor:
        angle = label.float()[:, None] * self.frequency  # [B, half]
        return torch.cat([angle.sin(), angle.cos()], dim=1)  # [B, 2 half]


class NoiseEmbedding(nn.Module):
    """A sinusoid of the noise label, then a two-layer perceptron: [B] -> [B, width]."""

    def __init__(
        self, frequencies: int, width: int, closed: bool = False, activation: Callable[[], nn.Module] = nn.SiLU
    ) -> None:
        super().__init__()
        self.sinusoid = Sinusoid(frequencies, closed)
        self.layers = nn.Sequential(nn.Linear(frequencies // 2 * 2, width), activation(), nn.Linear(width, width))

    def forward(self, label: Tensor) -> Tensor:
        return self.layers(self.sinusoid(label))  # type: ignore[no-any-return]


class ClassEmbedding(nn.Embedding):
    """K classes and a last row for "no class", which starts at zero."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__(classes + 1, width)
        nn.init.zeros_(self.weight[classes:])

    def forward(self, y: Tensor | None) -> Tensor:
        """[B, width]; [1, width] where y is None."""
        return self.weight[-1:] if y is None else super().forward(y)
