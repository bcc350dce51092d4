"""annotated_unet: the network of "The Annotated Diffusion Model" (Rogge & Rasul 2022), from which the lab grew."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from pydantic import Field
from torch import Tensor, nn

from registry.backbones import BACKBONES
from registry.backbones.attention import attend, split_heads
from registry.backbones.embeddings import ClassEmbedding, NoiseEmbedding
from registry.backbones.sizes import require_halvings, require_multiple
from registry.options import Count, Positive
from registry.traits import Traits

HEADS, HEAD_WIDTH = 4, 32
GROUPS = 4


class ResNetBlock(nn.Module):
    """Two convolutions, each followed by group normalisation and SiLU (Ho et al. 2020, appendix B); noise enters between."""

    def __init__(self, width_in: int, width: int, width_emb: int | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.norm1 = nn.GroupNorm(GROUPS, width)
        self.to_shift = None if width_emb is None else nn.Linear(width_emb, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, width)
        self.skip = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = F.silu(self.norm1(self.conv1(x)))
        if self.to_shift is not None:
            h = h + self.to_shift(F.silu(emb))[:, :, None, None]
        return self.skip(x) + F.silu(self.norm2(self.conv2(h)))  # type: ignore[no-any-return]


class ConvNeXtBlock(nn.Module):
    """Depthwise 7 x 7, then two 3 x 3 convolutions that widen and narrow (after Liu et al. 2022, figure 4)."""

    def __init__(self, width_in: int, width: int, width_emb: int | None) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width_in, width_in, 7, padding=3, groups=width_in)
        self.to_shift = None if width_emb is None else nn.Linear(width_emb, width_in)
        self.layers = nn.Sequential(
            nn.GroupNorm(1, width_in),
            nn.Conv2d(width_in, 2 * width, 3, padding=1),
            nn.GELU(),
            nn.GroupNorm(1, 2 * width),
            nn.Conv2d(2 * width, width, 3, padding=1),
        )
        self.skip = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.depthwise(x)
        if self.to_shift is not None:
            h = h + self.to_shift(F.gelu(emb))[:, :, None, None]
        return self.skip(x) + self.layers(h)  # type: ignore[no-any-return]


class LinearAttention(nn.Module):
    """Residual attention whose cost grows linearly with the pixels (Shen et al. 2021, eq. 5)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.to_qkv = nn.Conv2d(width, 3 * HEADS * HEAD_WIDTH, 1, bias=False)
        self.to_out = nn.Conv2d(HEADS * HEAD_WIDTH, width, 1)
        self.norm_out = nn.GroupNorm(1, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x).flatten(2)  # [B, C, H W]
        # Three products and not one that is split: the split's gradient would copy what is widest in this network.
        weights = (weight.flatten(1).expand(len(x), -1, -1) for weight in self.to_qkv.weight.chunk(3))
        q, k, v = (_heads(weight @ h) for weight in weights)  # [B, heads, d, H W]
        context = v @ _softmax(k, dim=-1).mT * HEAD_WIDTH**-0.5  # [B, heads, d, d]
        # The output's projection meets the small context before the context meets the pixels.
        mixed = einsum(self.to_out.weight.view(-1, HEADS, HEAD_WIDTH), context, "c h e, b h e d -> b c h d")
        out = mixed.flatten(2) @ _softmax(q, dim=-2).flatten(1, 2) + cast(Tensor, self.to_out.bias)[:, None]
        return x + self.norm_out(out.unflatten(2, x.shape[2:]))  # type: ignore[no-any-return]


def _softmax(x: Tensor, dim: int) -> Tensor:
    """In the precision that it comes in: autocast would widen it, only for the product that follows to narrow it again."""
    with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):  # where operations are counted there is none
        return x.softmax(dim)


def _heads(x: Tensor) -> Tensor:
    return rearrange(x, "b (h d) n -> b h d n", h=HEADS)  # type: ignore[no-any-return]


class FullAttention(nn.Module):
    """Residual softmax attention over all pixels (Vaswani et al. 2017)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.to_qkv = nn.Conv2d(width, 3 * HEADS * HEAD_WIDTH, 1, bias=False)
        self.to_out = nn.Conv2d(HEADS * HEAD_WIDTH, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.to_out(attend(split_heads(self.to_qkv(self.norm(x)), HEADS), height=x.shape[2]))  # type: ignore[no-any-return]


@BACKBONES.register("annotated_unet", Traits(trial={"width": 8, "multipliers": [1, 2]}))
class AnnotatedUNet(nn.Module):
    """The annotated diffusion U-Net (Rogge & Rasul 2022): linear attention at each resolution, full attention in the middle.

    Each scale but the last halves the sides; `multipliers` give the width of each scale, in units of `width`. `label_scale`
    is what the noise label is multiplied by: the published network reads t itself, which of T steps is 1000 t / T times
    T / 1000. With `published` the rest is the tutorial's too: frequencies down to 1 / 10,000, GELU in the embedding, and a
    last block that is not told the noise.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int | None,
        channels_out: int,
        *,
        width: Count = 28,
        multipliers: Annotated[tuple[Count, ...], Field(min_length=1, max_length=10)] = (1, 2, 4),
        block: Literal["resnet", "convnext"] = "resnet",
        label_scale: Positive = 1.0,
        published: bool = False,
    ) -> None:
        super().__init__()
        require_halvings("annotated_unet", image_shape, 2 ** (len(multipliers) - 1))
        require_multiple("annotated_unet", "width", width, GROUPS)
        make_block = ResNetBlock if block == "resnet" else ConvNeXtBlock
        width_emb = 4 * width
        stem = width // 3 * 2
        widths = [stem, *(multiplier * width for multiplier in multipliers)]
        self.label_scale = label_scale
        self.embed_noise = NoiseEmbedding(width, width_emb, closed=published, activation=nn.GELU if published else nn.SiLU)
        self.embed_class = ClassEmbedding(classes, width_emb) if classes else None
        self.stem = nn.Conv2d(image_shape[0], stem, 7, padding=3)

        def scale(width_in: int, width: int, resample: nn.Module) -> nn.ModuleList:
            first, second = make_block(width_in, width, width_emb), make_block(width, width, width_emb)
            return nn.ModuleList([first, second, LinearAttention(width), resample])

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for width_in, width_out in itertools.pairwise(widths):
            last = len(self.down) == len(multipliers) - 1
            halve = nn.Identity() if last else nn.Conv2d(width_out, width_out, 4, stride=2, padding=1)
            self.down.append(scale(width_in, width_out, halve))
        self.middle_in = make_block(widths[-1], widths[-1], width_emb)
        self.middle_attention = FullAttention(widths[-1])
        self.middle_out = make_block(widths[-1], widths[-1], width_emb)
        for width_in, width_out in reversed(list(itertools.pairwise(widths[1:]))):
            double = nn.ConvTranspose2d(width_in, width_in, 4, stride=2, padding=1)
            self.up.append(scale(2 * width_out, width_in, double))
        self.head_block = make_block(width * multipliers[0], width, None if published else width_emb)
        self.head = nn.Conv2d(width, channels_out, 1)

    def forward(self, x: Tensor, label: Tensor, y: Tensor | None = None) -> Tensor:
        emb = self.embed_noise(self.label_scale * label)
        if self.embed_class is not None:
            emb = emb + self.embed_class(y)
        h = self.stem(x)
        skips = []
        for first, second, mix, halve in map(_layers, self.down):
            h = mix(second(first(h, emb), emb))
            skips.append(h)
            h = halve(h)  # [B, C, H / 2, W / 2]
        h = self.middle_out(self.middle_attention(self.middle_in(h, emb)), emb)
        for first, second, mix, double in map(_layers, self.up):
            h = torch.cat([h, skips.pop()], dim=1)
            h = double(mix(second(first(h, emb), emb)))  # [B, C, 2 H, 2 W]
        return self.head(self.head_block(h, emb))  # type: ignore[no-any-return]


def _layers(scale: nn.Module) -> Iterator[nn.Module]:
    return iter(cast(nn.ModuleList, scale))
