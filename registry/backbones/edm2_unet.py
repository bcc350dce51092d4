"""edm2_unet: the magnitude-preserving U-Net of EDM2 (Karras et al. 2024, configuration G)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from registry.backbones import BACKBONES
from registry.backbones.attention import attend, split_heads
from registry.backbones.blocks import recomputed, resample
from registry.backbones.embeddings import LevelEmbedding
from registry.backbones.sizes import attention_sizes, require_halvings, require_multiple
from registry.options import Count, Fraction, Positive
from registry.traits import Options, Setting, Traits

EPSILON = 1e-4
RESIDUAL, ATTENTION, LABEL, SKIP = 0.3, 0.3, 0.5, 0.5  # the share of the second term in each sum, as published
MANY_CYCLES = 30  # of random Fourier features; over the labels of EDM2 there are three
LARGEST = 256.0  # activations are clipped there, for the sake of half precision


def unit_magnitude(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """x divided by its root mean square over `dim`."""
    mean_square = x.float().square().mean(dim, keepdim=True)
    return x / (mean_square.sqrt() + EPSILON).to(x.dtype)


def mp_silu(x: Tensor) -> Tensor:
    """SiLU that keeps the magnitude of standard normal input (eq. 81)."""
    return F.silu(x) / 0.596


def mp_sum(a: Tensor, b: Tensor, t: float) -> Tensor:
    """(1 - t) a + t b that keeps the magnitude of independent unit input (eq. 88)."""
    return a.lerp(b, t) / math.hypot(1 - t, t)


def mp_cat(a: Tensor, b: Tensor, t: float) -> Tensor:
    """a and b side by side, each with its share of the magnitude however many channels it has (eq. 103)."""
    both = math.sqrt((a.shape[1] + b.shape[1]) / ((1 - t) ** 2 + t**2))
    return torch.cat([a * (both * (1 - t) / a.shape[1] ** 0.5), b * (both * t / b.shape[1] ** 0.5)], dim=1)


class MPLayer(nn.Module):
    """Convolution, or a linear layer where `kernel` is 0, without bias, whose weights have unit magnitude (eq. 47).

    In training the stored weights themselves are brought back to it, so that the relative size of a step does not fade
    ("forced weight normalization", eq. 66).
    """

    def __init__(self, width_in: int, width: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width_in, *[kernel] * (2 if kernel else 0)))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        dims = tuple(range(1, self.weight.ndim))
        if self.training:
            with torch.no_grad():
                self.weight.copy_(unit_magnitude(self.weight, dims))
        weight = unit_magnitude(self.weight, dims) * (gain / math.sqrt(self.weight[0].numel()))
        weight = weight.to(x.dtype)
        return F.linear(x, weight) if weight.ndim == 2 else F.conv2d(x, weight, padding=weight.shape[-1] // 2)


class MPFourier(nn.Module):
    """Cosines of random frequency and phase, of unit magnitude: [B] -> [B, width] (eq. 75).

    `bandwidth` is in cycles per unit of the label.
    """

    frequency: Tensor
    phase: Tensor

    def __init__(self, width: int, bandwidth: float) -> None:
        super().__init__()
        self.register_buffer("frequency", 2 * math.pi * bandwidth * torch.randn(width))
        self.register_buffer("phase", 2 * math.pi * torch.rand(width))

    def forward(self, label: Tensor) -> Tensor:
        return math.sqrt(2) * torch.cos(label.float()[:, None] * self.frequency + self.phase)


class MPNoiseEmbedding(LevelEmbedding):
    """Fourier features of the noise label, then a layer: [B] -> [B, width]."""

    def __init__(self, features: int, width: int, bandwidth: float) -> None:
        super().__init__()
        # Under the names that they had in a Sequential, by which older runs know them.
        self.add_module("0", MPFourier(features, bandwidth))
        self.add_module("1", MPLayer(features, width, 0))

    def embed(self, label: Tensor) -> Tensor:
        return self.get_submodule("1")(self.get_submodule("0")(label))  # type: ignore[no-any-return]


class MPBlock(nn.Module):
    """Residual block, with attention where asked for (figure 21): an encoder's normalises its input, a decoder's does not."""

    def __init__(
        self, width_in: int, width: int, width_emb: int, kind: Literal["encoder", "decoder"],
        how: Literal["keep", "down", "up"] = "keep", heads: int = 0, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder, self.how, self.heads, self.dropout = kind == "encoder", how, heads, dropout
        self.skip = MPLayer(width_in, width, 1) if width_in != width else None
        self.conv1 = MPLayer(width if self.encoder else width_in, width, 3)
        self.to_scale = MPLayer(width_emb, width, 0)
        self.gain = nn.Parameter(torch.zeros(()))
        self.conv2 = MPLayer(width, width, 3)
        self.to_qkv = MPLayer(width, 3 * width, 1) if heads else None
        self.to_out = MPLayer(width, width, 1) if heads else None

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        x = resample(x, self.how)
        if self.encoder:
            x = self.skip(x) if self.skip is not None else x
            x = unit_magnitude(x, dim=1)  # of each pixel
        h = self.conv1(mp_silu(x))
        scale = self.to_scale(emb, self.gain) + 1
        h = mp_silu(h * scale[:, :, None, None])
        h = self.conv2(F.dropout(h, self.dropout, self.training))
        if not self.encoder and self.skip is not None:
            x = self.skip(x)
        x = mp_sum(x, h, RESIDUAL)
        if self.to_qkv is not None and self.to_out is not None:
            qkv = unit_magnitude(split_heads(self.to_qkv(x), self.heads), dim=-1)  # cosine attention
            x = mp_sum(x, self.to_out(attend(qkv, height=x.shape[2])), ATTENTION)
        return x.clamp(-LARGEST, LARGEST)


def _strange_levels(options: Options, setting: Setting) -> Iterator[str]:
    bandwidth, labels = options["bandwidth"], setting.labels
    cycles = bandwidth * float(labels.max() - labels.min())
    if cycles > MANY_CYCLES:
        yield (
            f"backbone.bandwidth: {bandwidth:g} makes 'edm2_unet' see {cycles:,.0f} cycles along the noise labels of target"
            f" '{setting.target}', each level strange to its neighbours; take {3 * bandwidth / cycles:.1g}, or target edm"
        )


TRIAL = {"width": 8, "multipliers": [1, 2], "blocks": 1, "head_channels": 8}


@BACKBONES.register("edm2_unet", Traits(advice=_strange_levels, trial=TRIAL))
class EDM2UNet(nn.Module):
    """EDM2's U-Net: no biases, no group normalisation; every layer keeps the magnitude (Karras et al. 2024, configuration G).

    `multipliers` give the width of each scale in units of `width`, each scale but the last halving the sides;
    `attention_resolutions` are heights of feature maps in pixels (null: all up to 16). It reads noise labels of about unit
    size, as target `edm` gives; for those up to 1000 that the others give, set `bandwidth` to about 0.003. XS of the paper is
    width 128, multipliers (1, 2, 3, 4), blocks 3.
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
        head_channels: Count = 64,
        bandwidth: Positive = 1.0,
        dropout: Fraction = 0.0,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        require_halvings("edm2_unet", image_shape, 2 ** (len(multipliers) - 1))
        channels, height, _ = image_shape
        attends = attention_sizes("edm2_unet", height, len(multipliers), attention_resolutions)
        self.recompute = activation_checkpointing
        self.labels = classes + 1 if classes else 0  # the last stands for "no class"
        widths = [multiplier * width for multiplier in multipliers]
        width_emb, last = max(widths), len(widths) - 1

        def heads(width: int, wanted: bool) -> int:
            if wanted:
                require_multiple("edm2_unet", "the width at a scale with attention", width, head_channels)
            return width // head_channels if wanted else 0

        def encoder(width_in: int, width: int, how: Literal["keep", "down"] = "keep", attention: bool = False) -> MPBlock:
            return MPBlock(width_in, width, width_emb, "encoder", how, heads(width, attention), dropout)

        def decoder(width_in: int, width: int, how: Literal["keep", "up"] = "keep", attention: bool = False) -> MPBlock:
            return MPBlock(width_in, width, width_emb, "decoder", how, heads(width, attention), dropout)

        self.embed_noise = MPNoiseEmbedding(widths[0], width_emb, bandwidth)
        self.embed_class = MPLayer(self.labels, width_emb, 0) if classes else None
        self.stem = MPLayer(channels + 1, widths[0], 3)
        now, skips = widths[0], [widths[0]]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, out in enumerate(widths):
            attention = height >> level in attends
            stages = [encoder(now, now, "down")] if level else []
            stages += [encoder(now if number == 0 else out, out, attention=attention) for number in range(blocks)]
            skips += [now] * bool(level) + [out] * blocks
            self.down.extend(stages)
            now = out
        self.middle = nn.ModuleList([decoder(now, now, attention=True), decoder(now, now)])
        for level, out in reversed(list(enumerate(widths))):
            attention, stages = height >> level in attends, []
            if level < last:
                stages.append(decoder(now, now, "up"))
            for _ in range(blocks + 1):
                stages.append(decoder(now + skips.pop(), out, attention=attention))
                now = out
            self.up.append(nn.ModuleList(stages))
        self.head = MPLayer(now, channels_out, 3)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, label: Tensor, y: Tensor | None = None) -> Tensor:
        emb = self.embed_noise(label)
        if self.embed_class is not None:
            emb = mp_sum(emb, self.embed_class(self._one_hot(x, y)), LABEL)
        emb = mp_silu(emb)
        # A channel of ones, because no layer has a bias.
        h = self.stem(torch.cat([x, torch.ones_like(x[:, :1])], dim=1))
        skips = [h]
        for block in self.down:
            h = recomputed(self.recompute, block, h, emb)
            skips.append(h)
        for block in self.middle:
            h = recomputed(self.recompute, block, h, emb)
        for scale in self.up:
            for block in cast(Iterable[MPBlock], scale):
                if block.how == "keep":
                    h = mp_cat(h, skips.pop(), SKIP)
                h = recomputed(self.recompute, block, h, emb)
        return self.head(h, self.gain)  # type: ignore[no-any-return]

    def _one_hot(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Of unit magnitude: [B, K + 1]."""
        if y is None:
            y = torch.full((len(x),), self.labels - 1, device=x.device)
        return F.one_hot(y, self.labels).to(x.dtype) * math.sqrt(self.labels)
