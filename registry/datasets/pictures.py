"""Pictures read one by one: from files, or from the rows of a hub data set."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from registry.errors import BadInput, reason
from registry.files import PICTURE, open_file

Mode = Literal["gray", "rgb"]
# Of PIL's many formats these, whatever a file is called: others call programs (EPS) or fetch files.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
LARGEST = 2**25  # pixels: what a small file may unpack to


class FilePictures(Dataset[Tensor]):
    """Image files as uint8 [C, size, size]."""

    def __init__(self, files: Sequence[Path], size: int, mode: Mode) -> None:
        self.files, self.size, self.mode = files, size, mode

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        file = self.files[index]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PIL warns of large images, and of tags that it does not know
                with open_file(file, PICTURE) as stream, Image.open(stream, formats=FORMATS) as image:  # the header only
                    return _squared(image, self.size, self.mode)
        except UnidentifiedImageError:  # its own words name no file where it is given a stream
            raise BadInput(f"{file}: cannot be read as an image (cannot identify its format)") from None
        except Exception as error:  # a damaged image can raise almost anything
            raise BadInput(f"{file}: cannot be read as an image ({reason(error)})") from None


class RowPictures(Dataset[Tensor]):
    """The image column of a `datasets.Dataset` as uint8 [C, size, size]; the rows stay on the disk."""

    def __init__(self, rows: Any, column: str, size: int, mode: Mode) -> None:
        self.rows, self.column, self.size, self.mode = rows.select_columns([column]), column, size, mode

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        try:
            return _squared(self.rows[index][self.column], self.size, self.mode)
        except Exception as error:  # as above
            raise BadInput(f"row {index}, column '{self.column}': cannot be read as an image ({reason(error)})") from None


def _squared(image: Image.Image, size: int, mode: Mode) -> Tensor:
    """The middle square, resized (antialiased): [C, size, size]."""
    from torchvision.transforms.functional import pil_to_tensor  # as slow to import as torch

    if image.width * image.height > LARGEST:
        raise BadInput(f"{image.width} x {image.height} pixels, more than {LARGEST:,}; make it smaller")
    if image.mode[0] in "IF":
        raise BadInput(f"{image.mode} pixels have more than 8 bits a channel; convert it first")
    # Cropped before it is resized: a thin image, resized first, would be a huge one.
    fitted = ImageOps.fit(image.convert("L" if mode == "gray" else "RGB"), (size, size), Image.Resampling.BILINEAR)
    pixels: Tensor = pil_to_tensor(fitted)
    return pixels


def held_out_mask(count: int, held_out: float, where: str) -> Tensor:
    """Which of `count` images are kept for testing: every 1 / `held_out`-th, bool [count].

    Raises:
        BadInput: nothing would be left to train on or to hold out.
    """
    test = torch.zeros(count, dtype=torch.bool)
    if held_out:
        test[:: max(round(1 / held_out), 1)] = True
    if not held_out or bool(test.all()):
        raise BadInput(f"{where}: held_out = {held_out} of {count} images leaves nothing to train on or to hold out")
    return test
