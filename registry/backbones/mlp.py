"""mlp: the smallest network that denoises."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry.backbones import BACKBONES
from registry.backbones.blocks import zero_init
from registry.backbones.embeddings import ClassEmbedding, NoiseEmbedding
from registry.options import Count
from registry.traits import Traits


class MLPBlock(nn.Module):
    """Pre-activation residual block of two linear layers, which the condition scales and shifts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.to_scale_shift = nn.Linear(width, 2 * width)
        self.linear1 = nn.Linear(width, width)
        self.linear2 = zero_init(nn.Linear(width, width))

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.to_scale_shift(emb).chunk(2, dim=1)  # [B, width]
        inner = F.silu(torch.addcmul(shift, self.norm(h), 1 + scale))
        return h + self.linear2(F.silu(self.linear1(inner)))  # type: ignore[no-any-return]


@BACKBONES.register("mlp", Traits(trial={"width": 16, "depth": 1}))
class MLP(nn.Module):
    """A residual perceptron over all pixels at once, for small checks: it knows nothing of images, and fits any size."""

    def __init__(
        self, image_shape: tuple[int, int, int], classes: int | None, channels_out: int, *, width: Count = 512, depth: Count = 4
    ) -> None:
        super().__init__()
        self.shape_out = (channels_out, *image_shape[1:])
        self.embed_noise = NoiseEmbedding(width, width)
        self.embed_class = ClassEmbedding(classes, width) if classes else None
        self.stem = nn.Linear(math.prod(image_shape), width)
        self.blocks = nn.ModuleList(MLPBlock(width) for _ in range(depth))
        self.head = zero_init(nn.Linear(width, math.prod(self.shape_out)))

    def forward(self, x: Tensor, label: Tensor, y: Tensor | None = None) -> Tensor:
        emb = self.embed_noise(label)
        if self.embed_class is not None:
            emb = emb + self.embed_class(y)
        emb = F.silu(emb)
        h = self.stem(x.flatten(1))  # [B, width]
        for block in self.blocks:
            h = block(h, emb)
        return self.head(h).unflatten(1, self.shape_out)  # type: ignore[no-any-return]  # [B, channels_out, H, W]
