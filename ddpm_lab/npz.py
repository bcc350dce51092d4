"""Images as .npz, in the convention of improved-diffusion: uint8 `arr_0` [N, H, W, C], labels `arr_1` [N]."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm_lab.files import write_whole
from registry.errors import BadInput


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
        with np.load(file, allow_pickle=False) as arrays:
            array = arrays["arr_0"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{file}: not an .npz with uint8 images arr_0 [N, H, W, C] ({' '.join(str(error).split())})") from None
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in (1, 3) or not array.size:
        found = f"{array.dtype} {list(array.shape)}"
        raise BadInput(f"{file}: arr_0 is {found}; uint8 [N, H, W, C] with one channel or three was expected")
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()
