"""Images as files: a grid as PNG, all of them as .npz."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torchvision.utils import make_grid

from ddpm_lab.storage.files import write_whole
from ddpm_lab.storage.measurement import Generation
from registry.files import PICTURE, open_file

PLANE = (2, 1, 1)  # the shape of images that are points in the plane, and are drawn as such
CANVAS, DOT = 256, 3  # pixels: a side of that drawing, and of a point
SHORTEST = 56  # pixels: smaller images are enlarged by a whole factor, so that they can be seen

ABOUT = "ddpm_lab"  # the text in a PNG that says how its images were made


def save_grid(file: Path, images: Tensor, columns: int | None = None, about: str | None = None) -> None:
    """`grid_of` the images as a PNG; `about` says how they were made, and is kept in it."""
    picture, words = grid_of(images, columns), PngInfo()
    if about is not None:
        words.add_text(ABOUT, about)
    write_whole(file, lambda path: picture.save(path, format="PNG", pnginfo=words))


def grid_of(images: Tensor, columns: int | None = None) -> Image.Image:
    """uint8 images [N, C, H, W] as one picture, in rows of `columns` (default: as square as it gets); points in one plane."""
    if tuple(images.shape[1:]) == PLANE:
        return _points(images[:, :, 0, 0])
    factor = max(1, math.ceil(SHORTEST / images.shape[2]))
    enlarged = F.interpolate(images.float() / 255, scale_factor=factor, mode="nearest")
    grid = make_grid(enlarged, nrow=columns or math.ceil(math.sqrt(len(images))), padding=2, pad_value=0.5)
    return Image.fromarray((grid * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def data_url(images: Tensor, columns: int | None = None) -> str:
    """`grid_of` the images as a PNG that stands in a page itself."""
    stream = io.BytesIO()
    grid_of(images, columns).save(stream, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _points(points: Tensor) -> Image.Image:
    """Points [N, 2], 0 to 255, x to the right and y upwards; darker where there are more."""
    x, y = (points.float() / 255 * (CANVAS - 1)).round().long().T
    count = ((CANVAS - 1 - y) * CANVAS + x).bincount(minlength=CANVAS**2).view(1, 1, CANVAS, CANVAS)
    dots = F.max_pool2d(count.float(), DOT, stride=1, padding=DOT // 2)
    return Image.fromarray((255 * torch.exp(-dots)).round().to(torch.uint8)[0, 0].numpy()).convert("RGB")


def unlike(file: Path, about: str) -> Path:
    """`file`, or where a picture is there that was made another way, a name beside it that says `about` by its hash."""
    if not file.exists() or _about(file) == about:
        return file
    return file.with_name(f"{file.stem}-{hashlib.sha256(about.encode()).hexdigest()[:8]}{file.suffix}")


def _about(file: Path) -> str | None:
    try:
        with open_file(file, PICTURE) as stream, Image.open(stream) as picture:
            found = picture.info.get(ABOUT)
            return found if isinstance(found, str) else None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # a picture of somebody else's, or none
        return None


def write_images(file: Path, images: Tensor, labels: Tensor | None, generation: Generation) -> None:
    """uint8 images [N, C, H, W], labels [N] where there are any, and how they were made: plain words and numbers."""
    arrays = [images.permute(0, 2, 3, 1).contiguous().numpy()]  # [N, H, W, C]
    if labels is not None:
        arrays.append(labels.numpy())

    def write(path: Path) -> None:
        with open(path, "wb") as stream:  # by stream, because numpy appends .npz to other names
            np.savez(stream, *arrays, made_by=np.array(json.dumps(generation)))

    write_whole(file, write)
