"""A folder of image files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.functional import pil_to_tensor

from registry.datasets import DATASETS, ImageSet, Split
from registry.errors import BadInput, reason
from registry.options import Fraction, Side

# Of PIL's many formats those of IMG_EXTENSIONS, whatever a file is called: others call programs (EPS) or fetch files.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
LARGEST = 2**25  # pixels: what a small file may unpack to


@DATASETS.register("image_folder")
def image_folder(*, folder: str, size: Side = 32, mode: Literal["gray", "rgb"] = "rgb", held_out: Fraction = 0.1) -> ImageSet:
    """A folder of image files, or of one sub-folder per class; centre-cropped to a square and resized (antialiased).

    Every 1 / `held_out`-th image of the sorted list is kept for testing.
    """
    root = Path(folder).expanduser()
    files = sorted(file for file in root.rglob("*") if file.suffix.lower() in IMG_EXTENSIONS)
    if not files:
        raise BadInput(f"{root}: no image file in it" if root.is_dir() else f"{root}: no such folder")
    names = sorted({file.relative_to(root).parts[0] for file in files if file.parent != root})
    labelled = len(names) > 1 and all(file.parent != root for file in files)
    images = torch.stack([_read(file, size, "L" if mode == "gray" else "RGB") for file in files])  # [N, C, size, size]
    labels = torch.tensor([names.index(file.relative_to(root).parts[0]) for file in files]) if labelled else None
    test = torch.zeros(len(files), dtype=torch.bool)
    if held_out:
        test[:: max(round(1 / held_out), 1)] = True
    if not held_out or bool(test.all()):
        raise BadInput(f"{root}: held_out = {held_out} of {len(files)} images leaves nothing to train on or to hold out")

    def split(chosen: torch.Tensor) -> Split:
        return Split(images[chosen], labels[chosen] if labels is not None else None)

    return ImageSet("image_folder", split(~test), split(test), tuple(names) if labelled else None, str(root))


def _read(file: Path, size: int, mode: str) -> Tensor:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL warns of large images, and of tags that it does not know
            with Image.open(file, formats=FORMATS) as image:  # the header only
                if image.width * image.height > LARGEST:
                    raise BadInput(f"{image.width} x {image.height} pixels, more than {LARGEST:,}; make it smaller")
                if image.mode[0] in "IF":
                    raise BadInput(f"{image.mode} pixels have more than 8 bits a channel; convert it first")
                # Cropped before it is resized: a thin image, resized first, would be a huge one.
                square = ImageOps.fit(image.convert(mode), (size, size), Image.Resampling.BILINEAR)
                pixels: Tensor = pil_to_tensor(square)  # [C, size, size]
                return pixels
    except Exception as error:  # damage in an image comes to light as almost anything
        raise BadInput(f"{file}: cannot be read as an image ({reason(error)})") from None
