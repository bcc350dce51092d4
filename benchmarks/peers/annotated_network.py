"""The network of "The Annotated Diffusion Model" (Rogge & Rasul 2022), written from its description, without a part of the lab.

So the lab's own can be held against it. It is the tutorial's first version, with blocks of ConvNeXt by default. Those of ResNet
have 4 groups in their group normalisation, because 28 channels do not divide into the default of 8.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

HEADS, HEAD_WIDTH = 4, 32


class Sinusoids(nn.Module):
    """t [B] -> half sines, then half cosines, of frequencies from 1 to 1 / 10,000 in equal ratios."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.count = width // 2

    def forward(self, t: Tensor) -> Tensor:
        exponent = torch.linspace(0, 1, self.count, device=t.device)
        angle = torch.outer(t.float(), torch.exp(-math.log(10_000.0) * exponent))
        return torch.cat((torch.sin(angle), torch.cos(angle)), dim=1)


class ResNet(nn.Module):
    """Twice: convolution, group normalisation, SiLU. The projected time is added in between, where there is one."""

    def __init__(self, channels_in: int, channels: int, time: int | None) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(time, channels)) if time else None
        self.one = nn.Sequential(nn.Conv2d(channels_in, channels, 3, padding=1), nn.GroupNorm(4, channels), nn.SiLU())
        self.two = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(4, channels), nn.SiLU())
        self.shortcut = nn.Identity() if channels_in == channels else nn.Conv2d(channels_in, channels, 1)

    def forward(self, x: Tensor, t: Tensor | None) -> Tensor:
        h = self.one(x)
        if self.time is not None:
            h = h + self.time(t)[..., None, None]
        return cast(Tensor, self.two(h) + self.shortcut(x))


class ConvNeXt(nn.Module):
    """A depthwise convolution, to which the projected time is added; then two, with twice as many channels in between."""

    def __init__(self, channels_in: int, channels: int, time: int | None) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.GELU(), nn.Linear(time, channels_in)) if time else None
        self.depthwise = nn.Conv2d(channels_in, channels_in, 7, padding=3, groups=channels_in)
        self.net = nn.Sequential(
            nn.GroupNorm(1, channels_in), nn.Conv2d(channels_in, 2 * channels, 3, padding=1), nn.GELU(),
            nn.GroupNorm(1, 2 * channels), nn.Conv2d(2 * channels, channels, 3, padding=1),
        )  # fmt: skip
        self.shortcut = nn.Identity() if channels_in == channels else nn.Conv2d(channels_in, channels, 1)

    def forward(self, x: Tensor, t: Tensor | None) -> Tensor:
        h = self.depthwise(x)
        if self.time is not None:
            h = h + self.time(t)[..., None, None]
        return cast(Tensor, self.net(h) + self.shortcut(x))


class Attention(nn.Module):
    """Of four heads over all pixels, softmax or linear; normalised before it and added to what came in."""

    def __init__(self, channels: int, linear: bool) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(1, channels)
        self.qkv = nn.Conv2d(channels, 3 * HEADS * HEAD_WIDTH, 1, bias=False)
        out = nn.Conv2d(HEADS * HEAD_WIDTH, channels, 1)
        self.out = nn.Sequential(out, nn.GroupNorm(1, channels)) if linear else out

    def forward(self, x: Tensor) -> Tensor:
        b, _, height, width = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, 3, HEADS, HEAD_WIDTH, height * width).unbind(1)
        if self.linear:
            context = torch.einsum("bhdn,bhen->bhde", k.softmax(dim=-1), v)
            mixed = torch.einsum("bhde,bhdn->bhen", context, q.softmax(dim=-2) * HEAD_WIDTH**-0.5)
        else:
            similar = torch.einsum("bhdi,bhdj->bhij", q * HEAD_WIDTH**-0.5, k)
            mixed = torch.einsum("bhij,bhdj->bhdi", similar.softmax(dim=-1), v)
        return cast(Tensor, x + self.out(mixed.reshape(b, -1, height, width)))


class Stage(nn.Module):
    """Two blocks and linear attention at one resolution."""

    def __init__(self, block: type[ResNet] | type[ConvNeXt], channels_in: int, channels: int, time: int) -> None:
        super().__init__()
        self.one, self.two = block(channels_in, channels, time), block(channels, channels, time)
        self.attention = Attention(channels, linear=True)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return cast(Tensor, self.attention(self.two(self.one(x, t), t)))


class PublishedUNet(nn.Module):
    """(x [B, 1, H, W], t [B]) -> the noise [B, 1, H, W]; three resolutions with `dim`, 2 `dim` and 4 `dim` channels."""

    def __init__(self, block: type[ResNet] | type[ConvNeXt], dim: int = 28) -> None:
        super().__init__()
        time, wide = 4 * dim, 4 * dim
        first = dim // 3 * 2
        self.time = nn.Sequential(Sinusoids(dim), nn.Linear(dim, time), nn.GELU(), nn.Linear(time, time))
        self.first = nn.Conv2d(1, first, 7, padding=3)
        self.down = nn.ModuleList(
            [Stage(block, first, dim, time), Stage(block, dim, 2 * dim, time), Stage(block, 2 * dim, wide, time)]
        )
        self.shrink = nn.ModuleList([nn.Conv2d(c, c, 4, stride=2, padding=1) for c in (dim, 2 * dim)])
        self.middle = nn.ModuleList([block(wide, wide, time), Attention(wide, linear=False), block(wide, wide, time)])
        # Half of what a stage takes comes from the way down; the finest resolution's goes unused, as published.
        self.up = nn.ModuleList([Stage(block, 2 * wide, 2 * dim, time), Stage(block, 4 * dim, dim, time)])
        self.grow = nn.ModuleList([nn.ConvTranspose2d(c, c, 4, stride=2, padding=1) for c in (2 * dim, dim)])
        self.last, self.head = block(dim, dim, None), nn.Conv2d(dim, 1, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t, h = self.time(t), self.first(x)
        fine, middle, coarse = self.down
        h = self.shrink[0](fine(h, t))
        half = middle(h, t)
        quarter = coarse(self.shrink[1](half), t)
        before, attention, after = self.middle
        h = after(attention(before(quarter, t)), t)
        h = self.grow[0](self.up[0](torch.cat((h, quarter), dim=1), t))
        h = self.grow[1](self.up[1](torch.cat((h, half), dim=1), t))
        return cast(Tensor, self.head(self.last(h, None)))
