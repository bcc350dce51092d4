"""patch_unet: the network that learns fast on a small machine."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from registry.backbones import BACKBONES
from registry.backbones.attention import SelfAttention
from registry.backbones.blocks import ResidualBlock, zero_init
from registry.backbones.embeddings import ClassEmbedding, NoiseEmbedding
from registry.backbones.sizes import require_halvings, require_multiple
from registry.options import Count
from registry.traits import Traits

GROUPS = 8


@BACKBONES.register("patch_unet", Traits(trial={"width": 8, "blocks": 1, "heads": 1}))
class PatchUNet(nn.Module):
    """U-Net on 2 x 2 patches (pixel-unshuffle in, pixel-shuffle out), attention at the coarser of its two scales.

    After Hoogeboom et al. 2023 (simple diffusion, section 3.3: downsample first, spend the layers where they are cheap).
    Sides must be multiples of 4.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int | None,
        channels_out: int,
        *,
        width: Count = 64,
        blocks: Annotated[int, Field(gt=0, le=100)] = 2,
        heads: Count = 4,
    ) -> None:
        super().__init__()
        require_halvings("patch_unet", image_shape, 4)
        require_multiple("patch_unet", "width", width, GROUPS)
        require_multiple("patch_unet", "twice the width, divided among heads,", 2 * width, heads)
        width_emb = 4 * width
        self.embed_noise = NoiseEmbedding(width, width_emb)
        self.embed_class = ClassEmbedding(classes, width_emb) if classes else None
        self.stem = nn.Conv2d(4 * image_shape[0], width, 3, padding=1)
        self.down = nn.ModuleList(ResidualBlock(width, width, width_emb, GROUPS) for _ in range(blocks))
        self.shrink = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.low = nn.ModuleList(ResidualBlock(2 * width, 2 * width, width_emb, GROUPS) for _ in range(blocks))
        self.attention = SelfAttention(2 * width, heads)
        self.low_up = nn.ModuleList(ResidualBlock(4 * width, 2 * width, width_emb, GROUPS) for _ in range(blocks))
        self.grow = nn.Conv2d(2 * width, width, 3, padding=1)
        self.up = nn.ModuleList(ResidualBlock(2 * width, width, width_emb, GROUPS) for _ in range(blocks))
        self.norm = nn.GroupNorm(GROUPS, width)
        self.head = zero_init(nn.Conv2d(width, 4 * channels_out, 3, padding=1))

    def forward(self, x: Tensor, label: Tensor, y: Tensor | None = None) -> Tensor:
        emb = self.embed_noise(label)
        if self.embed_class is not None:
            emb = emb + self.embed_class(y)
        emb = F.silu(emb)
        h = self.stem(F.pixel_unshuffle(x, 2))  # [B, width, H/2, W/2]
        skips = []
        for block in self.down:
            h = block(h, emb)
            skips.append(h)
        h = self.shrink(h)  # [B, 2 width, H/4, W/4]
        for block in self.low:
            h = block(h, emb)
            skips.append(h)
        h = self.attention(h)
        for block in self.low_up:
            h = block(torch.cat([h, skips.pop()], dim=1), emb)
        h = self.grow(F.interpolate(h, scale_factor=2.0))  # [B, width, H/2, W/2]
        for block in self.up:
            h = block(torch.cat([h, skips.pop()], dim=1), emb)
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), 2)  # [B, channels_out, H, W]
