"""Softmax attention over pixels and over tokens (Vaswani et al. 2017)."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from registry.backbones.blocks import zero_init


def split_heads(qkv: Tensor, heads: int) -> Tensor:
    """Queries, keys and values of each head: [B, 3 heads d, H, W] -> [3, B, heads, H W, d]."""
    return rearrange(qkv, "b (n h d) x y -> n b h (x y) d", n=3, h=heads)  # type: ignore[no-any-return]


def attend(qkv: Tensor, height: int) -> Tensor:
    """Each pixel's mixture of the values: [3, B, heads, H W, d] -> [B, heads d, H, W]."""
    out = F.scaled_dot_product_attention(*qkv)  # [B, heads, H W, d]
    return rearrange(out, "b h (x y) d -> b (h d) x y", x=height)  # type: ignore[no-any-return]


class SelfAttention(nn.Module):
    """Residual multi-head self-attention over the pixels, zero at initialisation.

    `groups` are the norm's; `bias` is that of queries, keys and values.
    """

    def __init__(self, width: int, heads: int, groups: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, width)
        self.to_qkv = nn.Conv2d(width, 3 * width, 1, bias=bias)
        self.to_out = zero_init(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        qkv = split_heads(self.to_qkv(self.norm(x)), self.heads)
        return x + self.to_out(attend(qkv, height=x.shape[2]))  # type: ignore[no-any-return]


class TokenAttention(nn.Module):
    """Multi-head self-attention over tokens [B, N, width]; neither norm nor residual."""

    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width, bias=bias)
        self.to_out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        qkv = rearrange(self.to_qkv(tokens), "b t (n h d) -> n b h t d", n=3, h=self.heads)
        out = F.scaled_dot_product_attention(*qkv)  # [B, heads, N, d]
        return self.to_out(rearrange(out, "b h t d -> b t (h d)"))  # type: ignore[no-any-return]
