"""Images as sequences of patches, and the perceptron of a transformer."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn


class Patches(nn.Conv2d):
    """Each patch of an image as a token (Dosovitskiy et al. 2021): [B, C, H, W] -> [B, tokens, width], row by row."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__(channels, width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(super().forward(x), "b d h w -> b (h w) d")  # type: ignore[no-any-return]


def to_image(tokens: Tensor, patch: int, height: int) -> Tensor:
    """[B, tokens, patch patch C] -> [B, C, height, width]."""
    return rearrange(tokens, "b (h w) (p q c) -> b c (h p) (w q)", p=patch, q=patch, h=height // patch)  # type: ignore[no-any-return]


class Perceptron(nn.Sequential):
    """Two layers, four times as wide inside; GELU, or its tanh form."""

    def __init__(self, width: int, approximate: str) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(approximate), nn.Linear(4 * width, width))
