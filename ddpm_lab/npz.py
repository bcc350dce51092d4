"""Images as .npz, in the convention of improved-diffusion: uint8 `arr_0` [N, H, W, C], labels `arr_1` [N]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from ddpm_lab.files import write_whole


def write_images(file: Path, images: Tensor, labels: Tensor | None) -> None:
    """uint8 images [N, C, H, W], and labels [N] where there are any."""
    arrays = [images.permute(0, 2, 3, 1).contiguous().numpy()]  # [N, H, W, C]
    if labels is not None:
        arrays.append(labels.numpy())

    def write(path: Path) -> None:
        with open(path, "wb") as stream:  # by stream, because numpy appends .npz to other names
            np.savez(stream, *arrays)

    write_whole(file, write)
