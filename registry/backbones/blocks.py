"""The pieces that several backbones are made of."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from registry.errors import BadInput


class NoiseEmbedding(nn.Module):
    """Sinusoidal embedding of the noise label (Vaswani et al. 2017, section 3.5), then a two-layer perceptron."""

    frequency: Tensor

    def __init__(self, frequencies: int, width: int) -> None:
        super().__init__()
        half = frequencies // 2
        self.register_buffer("frequency", torch.exp(-math.log(10_000) * torch.arange(half) / half), persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * half, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, label: Tensor) -> Tensor:
        angle = label.float()[:, None] * self.frequency  # [B, half]
        return self.layers(torch.cat([angle.sin(), angle.cos()], dim=1))  # type: ignore[no-any-return]  # [B, width]


class ClassEmbedding(nn.Embedding):
    """K classes and a last row for "no class", which starts at zero."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__(classes + 1, width)
        nn.init.zeros_(self.weight[classes:])

    def forward(self, y: Tensor | None) -> Tensor:
        """[B, width]; [1, width] where y is None."""
        return self.weight[-1:] if y is None else super().forward(y)


class SelfAttention(nn.Module):
    """Residual multi-head self-attention over the pixels (Vaswani et al. 2017), zero at initialisation."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(1, width)
        self.to_qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.to_out = zero_init(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        height = x.shape[2]
        q, k, v = rearrange(self.to_qkv(self.norm(x)), "b (n h d) x y -> n b h (x y) d", n=3, h=self.heads)
        out = F.scaled_dot_product_attention(q, k, v)  # [B, heads, pixels, width / heads]
        return x + self.to_out(rearrange(out, "b h (x y) d -> b (h d) x y", x=height))  # type: ignore[no-any-return]


def require_multiple(name: str, option: str, value: int, factor: int) -> None:
    """BadInput unless `value` is a multiple of `factor`."""
    if value % factor:
        raise BadInput(f"{name}: {option} = {value} is not a multiple of {factor}")


def zero_init(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with all its parameters zero, so that a residual branch starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def require_halvings(name: str, image_shape: tuple[int, int, int], factor: int) -> None:
    """BadInput unless height and width are multiples of `factor`, naming the nearest sizes that are."""
    _, height, width = image_shape
    if height % factor or width % factor:
        fits = sorted({max(factor, size // factor * factor + step) for size in (height, width) for step in (0, factor)})
        raise BadInput(
            f"{name} cannot halve images of {height} x {width}: both sides must be multiples of {factor},"
            f" such as {' or '.join(map(str, fits))}"
        )
