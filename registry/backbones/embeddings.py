"""How a network is told the noise label and the class."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from registry.backbones.blocks import zero_init
from registry.errors import BadInput

SECOND = 64  # sines and cosines of a second label


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
        angle = label.to(self.frequency.dtype)[:, None] * self.frequency  # [B, half]
        return torch.cat([angle.sin(), angle.cos()], dim=1)  # [B, 2 half]


class LevelEmbedding(nn.Module):
    """How a network is told its noise label [B], and after `add_second` also how far it shall lead, [B, 2]: [B, width].

    A network has one of these. Its second label, in the units of 1000 level / T, is the way from its level to the one that the
    prediction is to lead to; what it adds is 0 to begin with, so that a network goes on from one without it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.second: NoiseEmbedding | None = None

    def embed(self, label: Tensor) -> Tensor:
        """[B] -> [B, width]."""
        raise NotImplementedError

    def add_second(self) -> None:
        """Take a second label."""
        width = self.embed(torch.zeros(1)).shape[1]
        self.second = NoiseEmbedding(SECOND, width)
        zero_init(cast(nn.Linear, self.second.layers[2]))

    def forward(self, label: Tensor) -> Tensor:
        if self.second is None:
            return self.embed(label)
        first = self.embed(label[:, 0])
        return first + self.second(label[:, 1]).to(first.dtype)  # type: ignore[no-any-return]


class NoiseEmbedding(LevelEmbedding):
    """A sinusoid of the noise label, then a two-layer perceptron: [B] -> [B, width]."""

    def __init__(
        self, frequencies: int, width: int, closed: bool = False, activation: Callable[[], nn.Module] = nn.SiLU
    ) -> None:
        super().__init__()
        self.sinusoid = Sinusoid(frequencies, closed)
        self.layers = nn.Sequential(nn.Linear(frequencies // 2 * 2, width), activation(), nn.Linear(width, width))

    def embed(self, label: Tensor) -> Tensor:
        return self.layers(self.sinusoid(label))  # type: ignore[no-any-return]


class NoiseToken(LevelEmbedding):
    """A sinusoid of the noise label as it is: [B] -> [B, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sinusoid = Sinusoid(width)

    def embed(self, label: Tensor) -> Tensor:
        return self.sinusoid(label)  # type: ignore[no-any-return]


def add_second_level(network: nn.Module) -> None:
    """Let a network be told which level its prediction is to lead to.

    Raises:
        BadInput: it has no LevelEmbedding.
    """
    found = [module for module in network.modules() if isinstance(module, LevelEmbedding)]
    if not found:
        raise BadInput(
            f"{type(network).__name__} takes one noise level, and the objective needs two; embed its noise label by a"
            " NoiseEmbedding of registry.backbones.embeddings"
        )
    for embedding in found:
        embedding.add_second()


class ClassEmbedding(nn.Embedding):
    """K classes and a last row for "no class", which starts at zero."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__(classes + 1, width)
        nn.init.zeros_(self.weight[classes:])

    def forward(self, y: Tensor | None) -> Tensor:
        """[B, width]; [1, width] where y is None."""
        return self.weight[-1:] if y is None else super().forward(y)
