"""Images in an .npz from any program, as improved-diffusion has them: uint8 `arr_0` [N, H, W, C], labels `arr_1` [N]."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from registry.errors import BadInput, reason
from registry.files import ARRAYS, open_file

LONGEST = 300  # characters of a word that says how images were made
SMALL = 2**26  # bytes that an archive may unpack to however small it is itself
Require = Callable[[tuple[int, ...], "np.dtype[Any]"], None]
DENSEST = 20  # times its size on disk; images of clothes deflate to a half, of discs on black to a tenth


def read_images(file: Path) -> Tensor:
    """The images in an .npz from any program: uint8 [N, C, H, W].

    Raises:
        BadInput: it is missing, damaged, a bomb, or holds something else.
    """
    array = _read(file, "arr_0", "uint8 images [N, H, W, C]", _require_images)
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()


def read_labels(file: Path) -> Tensor | None:
    """The labels beside them: int64 [N], None where there are none.

    Raises:
        BadInput: as above.
    """
    if not _holds(file, "arr_1"):
        return None
    return torch.from_numpy(_read(file, "arr_1", "whole numbers [N]", _require_labels)).long()


def read_made_by(file: Path) -> dict[str, str | int | float | bool] | None:
    """How the images were made, where the lab wrote them: plain words and numbers; None where the file does not say.

    Raises:
        BadInput: as above.
    """
    if not _holds(file, "made_by"):
        return None
    try:
        found = json.loads(str(_read(file, "made_by", "a text", _require_text)))
    except ValueError as error:
        raise BadInput(f"{file}: made_by: {reason(error)}; take it out, or sample the images again") from None
    plain = isinstance(found, dict) and all(
        isinstance(value, (str, int, float, bool)) and len(f"{key}{value}") <= LONGEST for key, value in found.items()
    )
    if not plain:
        raise BadInput(f"{file}: made_by does not hold plain words and numbers; take it out, or sample the images again")
    return found  # type: ignore[no-any-return]


def _holds(file: Path, name: str) -> bool:
    try:
        with open_file(file, ARRAYS) as packed, zipfile.ZipFile(packed) as archive:
            return f"{name}.npy" in archive.namelist()
    except Exception as error:
        raise BadInput(f"{file}: not an .npz ({reason(error)})") from None


def _read(file: Path, name: str, expected: str, require: Require) -> np.ndarray[Any, Any]:
    try:
        with open_file(file, ARRAYS) as packed, zipfile.ZipFile(packed) as archive:
            entry = archive.getinfo(f"{name}.npy")
            _inspect(archive, entry, require)
            with archive.open(entry) as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
    except Exception as error:  # a damaged archive can raise almost anything
        kind = "" if isinstance(error, BadInput) else f"not an .npz with {expected} as {name}: "
        raise BadInput(f"{file}: {kind}{reason(error)}") from None


def _require_images(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3) or not math.prod(shape):
        raise BadInput(f"arr_0 is {dtype} {list(shape)}; uint8 [N, H, W, C] with one channel or three was expected")


def _require_labels(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "iu" or len(shape) != 1:
        raise BadInput(f"arr_1 is {dtype} {list(shape)}; labels as whole numbers [N] were expected")


def _require_text(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if dtype.kind != "U" or shape:
        raise BadInput(f"made_by is {dtype} {list(shape)}; one text was expected")


def _inspect(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, require: Require) -> None:
    """Check an array by what it says of itself, before it is read.

    Raises:
        BadInput: it says something else than what is required, or something that cannot be true.
    """
    name = entry.filename.removesuffix(".npy")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadInput(f"{name} is compressed by a method that numpy does not use; save it with np.savez")
    with archive.open(entry) as stream:
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = read_header[np.lib.format.read_magic(stream)](stream)
        held = entry.file_size - stream.tell()
    require(shape, dtype)
    promised = math.prod(shape) * dtype.itemsize
    if promised != held:
        raise BadInput(f"the header of {name} promises {promised:,} bytes, the archive {held:,}; the file is damaged")
    if promised > max(SMALL, DENSEST * entry.compress_size):
        raise BadInput(
            f"{name} is {promised:,} bytes packed into {entry.compress_size:,}, denser than images are; save it with np.savez"
        )
