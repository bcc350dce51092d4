"""Other ways from what a network gives to what an extractor sees: mistakes that are known to move distances.

Quantisation is that of the images alone, for a reference is uint8 from the start. Another size or other colours are those of
the images alone where the other side's images have them, and of the reference too where its protocol has them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ddpm_lab.diffusion.process import to_uint8
from registry.datasets import Images
from registry.errors import BadInput

OWN = "the extractor's"
ROUNDED, TRUNCATED, WRAPPED, JPEG = "rounded", "truncated", "wrapped", "jpeg"
QUANTISATIONS = (ROUNDED, TRUNCATED, WRAPPED, JPEG)
_INTERPOLATED = {  # rule -> mode of torch's interpolate, and whether it is antialiased
    "nearest": ("nearest", False), "bilinear": ("bilinear", False), "antialiased bilinear": ("bilinear", True),
    "antialiased bicubic": ("bicubic", True),
}  # fmt: skip
RESIZES = tuple(_INTERPOLATED)
FIRST, REPEATED, LUMINANCE, AVERAGED = "first channel of three", "repeated", "luminance", "averaged"
COLOURS = (FIRST, REPEATED, LUMINANCE, AVERAGED)
ALONE = ", the images alone"  # behind a level
LUMA = (0.299, 0.587, 0.114)  # of RGB, ITU-R BT.601


def quantised(images: Tensor, level: str) -> Tensor:
    """Images in [-1, 1], or already uint8, as uint8 [B, C, H, W].

    Raises:
        BadInput: they are uint8 already, and so rounded somehow.
    """
    exact = images.dtype != torch.uint8
    if not exact and level in (TRUNCATED, WRAPPED):
        raise BadInput("these images are uint8 already")
    if level == TRUNCATED:
        return ((images.clamp(-1, 1) + 1) * 127.5).floor().to(torch.uint8)
    if level == WRAPPED:
        return ((images + 1) * 127.5).round().remainder(256).to(torch.uint8)
    rounded = to_uint8(images) if exact else images
    return torch.stack([_through_jpeg(one) for one in rounded]) if level == JPEG else rounded


def resized(images: Tensor, level: str, size: tuple[int, int]) -> Tensor:
    """uint8 images at another size (H, W), uint8 again."""
    mode, antialias = _INTERPOLATED[level]
    return F.interpolate(images.float(), size, mode=mode, antialias=antialias).round().clamp(0, 255).to(torch.uint8)


def coloured(images: Tensor, level: str) -> Tensor:
    """uint8 images with other channels."""
    if level == REPEATED:
        return images[:, :1].expand(-1, 3, -1, -1).contiguous()
    if level == FIRST:
        return F.pad(images[:, :1], (0, 0, 0, 0, 0, 2))
    if images.shape[1] == 1:
        return images
    weights = torch.tensor(LUMA if level == LUMINANCE else (1 / 3,) * 3).view(1, 3, 1, 1)
    return (images.float() * weights).sum(1, keepdim=True).round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class Look:
    """What happens to uint8 images before the extractor; nothing by default."""

    resize: str = OWN
    colour: str = OWN
    size: tuple[int, int] | None = None  # H, W

    def __call__(self, images: Tensor) -> Tensor:
        if self.colour != OWN:
            images = coloured(images, self.colour)
        return images if self.resize == OWN or self.size is None else resized(images, self.resize, self.size)


def to_size(rule: str, height: int, width: int) -> str:
    """The level of images that were made, or kept, at another size."""
    return f"{rule} to {height} x {width}{ALONE}"


def looks(resize: str, colour: str, extractor_size: tuple[int, int] | None) -> tuple[Look, Look]:
    """What happens to the images, and what to the reference too."""
    alone, both = Look(), Look()
    for key, level, size in (("resize", resize, extractor_size), ("colour", colour, None)):
        named = re.fullmatch(rf"(.*?)(?: to (\d+) x (\d+))?({ALONE})?", level)
        assert named is not None
        size = (int(named[2]), int(named[3])) if named[2] else size
        update = {key: named[1], **({"size": size} if key == "resize" else {})}
        alone = Look(**{**vars(alone), **update})
        if not named[4]:
            both = Look(**{**vars(both), **update})
    return alone, both


@dataclass(frozen=True)
class Changed(Images):
    """A half of a data set, looked at another way."""

    images: Images
    look: Callable[[Tensor], Tensor]
    labels = None
    streamed = True

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.rows(torch.tensor([0])).shape[1:]
        return channels, height, width

    def rows(self, indices: Tensor) -> Tensor:
        """The images of those numbers: [n, C, H, W]."""
        return self.look(self.images.rows(indices))

    def batches(self, size: int) -> Iterator[Tensor]:
        """All images in order."""
        yield from map(self.look, self.images.batches(size))


@dataclass(frozen=True)
class Joined(Images):
    """Both halves of a data set as one."""

    one: Images
    other: Images
    labels = None
    streamed = True

    def __len__(self) -> int:
        return len(self.one) + len(self.other)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.one.image_shape

    def rows(self, indices: Tensor) -> Tensor:
        """The images of those numbers: [n, C, H, W]."""
        return torch.cat([
            self.one.rows(index) if index < len(self.one) else self.other.rows(index - len(self.one))
            for index in indices.view(-1, 1)
        ])  # fmt: skip

    def batches(self, size: int) -> Iterator[Tensor]:
        """All images in order."""
        yield from self.one.batches(size)
        yield from self.other.batches(size)


def _through_jpeg(image: Tensor) -> Tensor:
    """uint8 [C, H, W], as PIL writes it by default, at quality 75, and reads it again."""
    array = image.permute(1, 2, 0).numpy()
    stream = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(stream, "JPEG")
    read = np.asarray(Image.open(stream))
    return torch.from_numpy(read.reshape(array.shape).copy()).permute(2, 0, 1)
