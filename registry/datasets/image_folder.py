"""A folder of image files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from registry.datasets import DATASETS, ImageSet, Split
from registry.errors import BadInput
from registry.options import Fraction, Side

MOST_PIXELS = 2**26


@DATASETS.register("image_folder")
def image_folder(*, folder: str, size: Side = 32, mode: Literal["gray", "rgb"] = "rgb", held_out: Fraction = 0.1) -> ImageSet:
    """A folder of image files, or of one sub-folder per class; resized (antialiased) and centre-cropped to a square.

    Every 1 / `held_out`-th image of the sorted list is kept for testing.
    """
    root = Path(folder).expanduser()
    files = sorted(file for file in root.rglob("*") if file.suffix.lower() in IMG_EXTENSIONS)
    if not files:
        raise BadInput(f"{root}: no image file in it" if root.is_dir() else f"{root}: no such folder")
    names = sorted({file.relative_to(root).parts[0] for file in files if file.parent != root})
    labelled = len(names) > 1 and all(file.parent != root for file in files)
    reshape = v2.Compose([v2.Resize(size, antialias=True), v2.CenterCrop(size)])
    wanted = ImageReadMode.GRAY if mode == "gray" else ImageReadMode.RGB
    pixels = []
    for file in files:
        try:
            # torchvision decodes an image of any size; PIL reads the size without the pixels.
            with Image.open(file) as header:
                width, height = header.size
            if width * height > MOST_PIXELS:
                raise Image.DecompressionBombError
            pixels.append(reshape(decode_image(str(file), wanted)))
        except Image.DecompressionBombError:
            raise BadInput(f"{file}: more than the {MOST_PIXELS:,} pixels that an image may have") from None
        except (RuntimeError, ValueError, OSError, SyntaxError) as error:
            raise BadInput(f"{file}: cannot be read as an image ({str(error).splitlines()[0]})") from None
    images = torch.stack(pixels)  # [N, C, size, size]
    labels = torch.tensor([names.index(file.relative_to(root).parts[0]) for file in files]) if labelled else None
    test = torch.zeros(len(files), dtype=torch.bool)
    if held_out:
        test[:: max(round(1 / held_out), 1)] = True
    if not held_out or bool(test.all()):
        raise BadInput(f"{root}: held_out = {held_out} of {len(files)} images leaves nothing to train on or to hold out")

    def split(chosen: torch.Tensor) -> Split:
        return Split(images[chosen], labels[chosen] if labels is not None else None)

    return ImageSet("image_folder", split(~test), split(test), tuple(names) if labelled else None, str(root))
