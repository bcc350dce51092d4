"""adm_unet: the network of improved-diffusion and guided-diffusion."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from registry.backbones import BACKBONES
from registry.backbones.attention import SelfAttention
from registry.backbones.blocks import ResidualBlock, recomputed, zero_init
from registry.backbones.embeddings import ClassEmbedding, NoiseEmbedding
from registry.backbones.sizes import attention_sizes, require_halvings, require_multiple
from registry.errors import BadInput
from registry.options import Count, Fraction
from registry.traits import Traits

GROUPS = 32


class Stage(nn.Module):
    """A residual block, and attention where the feature map is small enough."""

    def __init__(self, block: ResidualBlock, attention: SelfAttention | None) -> None:
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        h = self.block(h, emb)
        return h if self.attention is None else self.attention(h)  # type: ignore[no-any-return]


class Resampling(nn.Module):
    """Halves by a strided convolution, or doubles and convolves (Ho et al. 2020); the noise level has no part in it."""

    def __init__(self, width: int, how: Literal["down", "up"]) -> None:
        super().__init__()
        self.how = how
        self.conv = nn.Conv2d(width, width, 3, stride=2 if how == "down" else 1, padding=1)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        return self.conv(F.interpolate(h, scale_factor=2.0) if self.how == "up" else h)  # type: ignore[no-any-return]


class Scale(nn.Module):
    """The stages at one size of the feature map, and the step to the next size, if there is one."""

    def __init__(self, stages: list[Stage], step: nn.Module | None) -> None:
        super().__init__()
        self.stages, self.step = nn.ModuleList(stages), step


TRIAL = {"width": 32, "multipliers": [1, 2], "blocks": 1, "head_channels": 32}


@BACKBONES.register("adm_unet", Traits(diffusers="UNet2DModel", trial=TRIAL))
class ADMUNet(nn.Module):
    """The U-Net of improved- and guided-diffusion (Nichol & Dhariwal 2021, appendix A; Dhariwal & Nichol 2021, section 3).

    `multipliers` give the width of each scale in units of `width`; widths are multiples of 32, and each scale but the last
    halves the sides. `attention_resolutions` are heights of feature maps in pixels (null: all up to 16). A head has
    `head_channels`, or there are `heads` of them at every width. docs/backbones.md has the published configurations.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int | None,
        channels_out: int,
        *,
        width: Count = 64,
        multipliers: Annotated[tuple[Count, ...], Field(min_length=1, max_length=10)] = (1, 2, 2),
        blocks: Annotated[int, Field(gt=0, le=100)] = 2,
        attention_resolutions: tuple[Count, ...] | None = None,
        head_channels: Count | None = 64,
        heads: Count | None = None,
        scale_shift: bool = True,
        resblock_updown: bool = True,
        dropout: Fraction = 0.0,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        require_halvings("adm_unet", image_shape, 2 ** (len(multipliers) - 1))
        require_multiple("adm_unet", "width", width, GROUPS)
        if (heads is None) == (head_channels is None):
            raise BadInput("adm_unet: give heads or head_channels a number, and set the other one to null")
        self.recompute = activation_checkpointing
        height, width_emb = image_shape[1], 4 * width
        attends = attention_sizes("adm_unet", height, len(multipliers), attention_resolutions)

        def attention(width: int) -> SelfAttention:
            what = "the width at a scale with attention, divided among heads,"
            require_multiple("adm_unet", what, width, heads or head_channels or 1)
            return SelfAttention(width, heads or width // (head_channels or 1), GROUPS, bias=True)

        def block(width_in: int, width: int, how: Literal["keep", "down", "up"] = "keep") -> ResidualBlock:
            return ResidualBlock(width_in, width, width_emb, GROUPS, scale_shift, dropout, how)

        def stage(width_in: int, width: int, size: int) -> Stage:
            return Stage(block(width_in, width), attention(width) if size in attends else None)

        def step(width: int, how: Literal["down", "up"]) -> nn.Module:
            return block(width, width, how) if resblock_updown else Resampling(width, how)

        widths, last = [multiplier * width for multiplier in multipliers], len(multipliers) - 1
        self.embed_noise = NoiseEmbedding(width, width_emb)
        self.embed_class = ClassEmbedding(classes, width_emb) if classes else None
        self.stem = nn.Conv2d(image_shape[0], widths[0], 3, padding=1)
        now, skips = widths[0], [widths[0]]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, out in enumerate(widths):
            stages = [stage(now if number == 0 else out, out, height >> level) for number in range(blocks)]
            self.down.append(Scale(stages, step(out, "down") if level < last else None))
            now = out
            skips += [out] * (blocks + (level < last))
        self.middle_in, self.middle_attention, self.middle_out = block(now, now), attention(now), block(now, now)
        for level, out in reversed(list(enumerate(widths))):
            stages = []
            for _ in range(blocks + 1):
                stages.append(stage(now + skips.pop(), out, height >> level))
                now = out
            self.up.append(Scale(stages, step(out, "up") if level else None))
        self.norm = nn.GroupNorm(GROUPS, now)
        self.head = zero_init(nn.Conv2d(now, channels_out, 3, padding=1))

    def forward(self, x: Tensor, label: Tensor, y: Tensor | None = None) -> Tensor:
        emb = self.embed_noise(label)
        if self.embed_class is not None:
            emb = emb + self.embed_class(y)
        emb = F.silu(emb)
        h = self.stem(x)
        skips = [h]
        for scale in cast(Iterable[Scale], self.down):
            for stage in scale.stages:
                h = recomputed(self.recompute, stage, h, emb)
                skips.append(h)
            if scale.step is not None:
                h = recomputed(self.recompute, scale.step, h, emb)  # [B, C, H / 2, W / 2]
                skips.append(h)
        h = self.middle_out(self.middle_attention(self.middle_in(h, emb)), emb)
        for scale in cast(Iterable[Scale], self.up):
            for stage in scale.stages:
                h = recomputed(self.recompute, stage, torch.cat([h, skips.pop()], dim=1), emb)
            if scale.step is not None:
                h = recomputed(self.recompute, scale.step, h, emb)  # [B, C, 2 H, 2 W]
        return self.head(F.silu(self.norm(h)))  # type: ignore[no-any-return]
