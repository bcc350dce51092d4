"""Images as .npz, in the convention of improved-diffusion: uint8 `arr_0` [N, H, W, C], labels `arr_1` [N]."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm_lab.files import write_whole
from registry.errors import BadInput

LARGE = 2**28
MOST_SQUEEZED = 100


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
        BadInput: it is missing, damaged, or holds something else.
    """
    try:
        _refuse_bomb(file)
        with np.load(file, allow_pickle=False) as arrays:
            array = arrays["arr_0"]
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zlib.error, zipfile.BadZipFile) as error:
        raise BadInput(f"{file}: not an .npz with uint8 images arr_0 [N, H, W, C] ({' '.join(str(error).split())})") from None
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in (1, 3) or not array.size:
        found = f"{array.dtype} {list(array.shape)}"
        raise BadInput(f"{file}: arr_0 is {found}; uint8 [N, H, W, C] with one channel or three was expected")
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()


def _refuse_bomb(file: Path) -> None:
    """numpy asks for all the memory that a header promises before it reads a byte."""
    with zipfile.ZipFile(file) as archive:
        member = archive.getinfo("arr_0.npy")
        if member.file_size > LARGE and member.file_size > MOST_SQUEEZED * member.compress_size:
            raise ValueError(f"{member.file_size:,} bytes squeezed into {member.compress_size:,}; no images are so empty")
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
            if read is None:
                raise ValueError(f"an array of version {version}")
            shape, _, dtype = read(stream)
            promised, held = math.prod(shape) * dtype.itemsize, member.file_size - stream.tell()
            if not dtype.hasobject and promised != held:
                raise ValueError(f"its header promises {promised:,} bytes, it holds {held:,}")
