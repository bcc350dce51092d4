"""Images as .npz, in the convention of improved-diffusion: uint8 `arr_0` [N, H, W, C], labels `arr_1` [N]."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm_lab.files import write_whole
from registry.errors import BadInput, reason

SMALL = 2**26  # bytes that an archive may unpack to however small it is itself
DENSEST = 20  # times its size on disk; images of garments deflate to a half, of discs on black to a tenth


def write_images(file: Path, images: Tensor, labels: Tensor | None) -> None:
    """uint8 images [N, C, H, W], and labels [N] where there are any."""
    arrays = [images.permute(0, 2, 3, 1).contiguous().numpy()]  # [N, H, W, C]
    if labels is not None:
        arrays.append(labels.numpy())

    def write(path: Path) -> None:
        with open(path, "wb") as stream:  # by stream, because numpy appends .npz to other names
            np.savez(stream, *arrays)

    write_whole(file, write)


def read_images(file: Path) -> Tensor:
    """The images in an .npz from any program: uint8 [N, C, H, W].

    Raises:
        BadInput: it is missing, damaged, a bomb, or holds something else.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entry = archive.getinfo("arr_0.npy")
            _inspect(archive, entry)
            with archive.open(entry) as stream:
                array = np.lib.format.read_array(stream, allow_pickle=False)
    except Exception as error:  # damage in an archive comes to light as almost anything
        kind = "" if isinstance(error, BadInput) else "not an .npz with uint8 images arr_0 [N, H, W, C]: "
        raise BadInput(f"{file}: {kind}{reason(error)}") from None
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()


def _inspect(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Judge an array by what it says of itself, before it is read.

    Raises:
        BadInput: it says something else than uint8 images, or something that cannot be true.
    """
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadInput("arr_0 is compressed by a method that numpy does not use; save it with np.savez")
    with archive.open(entry) as stream:
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = read_header[np.lib.format.read_magic(stream)](stream)
        held = entry.file_size - stream.tell()
    promised = math.prod(shape)
    if dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3) or not promised:
        raise BadInput(f"arr_0 is {dtype} {list(shape)}; uint8 [N, H, W, C] with one channel or three was expected")
    if promised != held:
        raise BadInput(f"the header of arr_0 promises {promised:,} bytes, the archive {held:,}; the file is damaged")
    if promised > max(SMALL, DENSEST * entry.compress_size):
        raise BadInput(
            f"arr_0 is {promised:,} bytes packed into {entry.compress_size:,}, denser than images are; save it with np.savez"
        )
