"""The pieces that several convolutional backbones are made of."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def zero_init(layer: Layer) -> Layer:
    """The layer with all its parameters zero, so that a residual branch starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def resample(x: Tensor, how: Literal["keep", "down", "up"]) -> Tensor:
    """The means of 2 x 2 pixels, or each pixel four times."""
    if how == "down":
        return F.avg_pool2d(x, 2)
    return F.interpolate(x, scale_factor=2.0) if how == "up" else x


def recomputed(on: bool, block: nn.Module, *inputs: Tensor) -> Tensor:
    """The block's output; with `on`, its activations are not kept for the backward pass but computed again in it.

    Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost": memory for about a third more time.
    """
    if on and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)  # type: ignore[no-any-return]
    return block(*inputs)  # type: ignore[no-any-return]


class ResidualBlock(nn.Module):
    """Pre-activation residual block (He et al. 2016b), scaled and shifted by the condition (Nichol & Dhariwal 2021, section 3).

    `emb` [B, width_emb] has been through its activation. Without `scale_shift` it is added between the convolutions, as in
    Ho et al. 2020. With `how` the block resamples on both its ways, before the first convolution (Brock et al. 2019, BigGAN).
    """

    def __init__(
        self, width_in: int, width: int, width_emb: int, groups: int,
        scale_shift: bool = True, dropout: float = 0.0, how: Literal["keep", "down", "up"] = "keep",
    ) -> None:  # fmt: skip
        super().__init__()
        self.scale_shift, self.how = scale_shift, how
        self.norm1 = nn.GroupNorm(groups, width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.to_scale_shift = nn.Linear(width_emb, 2 * width if scale_shift else width)
        self.norm2 = nn.GroupNorm(groups, width)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zero_init(nn.Conv2d(width, width, 3, padding=1))
        self.skip = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(resample(F.silu(self.norm1(x)), self.how))
        condition = self.to_scale_shift(emb)[:, :, None, None]
        if self.scale_shift:
            scale, shift = condition.chunk(2, dim=1)  # [B, width, 1, 1]
            h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        else:
            h = self.norm2(h + condition)
        return self.skip(resample(x, self.how)) + self.conv2(self.dropout(F.silu(h)))  # type: ignore[no-any-return]
