"""Images as .npz, in the convention of improved-diffusion: uint8 `arr_0` [N, H, W, C], labels `arr_1` [N].

Beside them `made_by`, a text (JSON): how the lab made them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ddpm_lab.files import write_whole


def write_images(file: Path, images: Tensor, labels: Tensor | None, generation: dict[str, Any]) -> None:
    """uint8 images [N, C, H, W], labels [N] where there are any, and how they were made: plain words and numbers."""
    arrays = [images.permute(0, 2, 3, 1).contiguous().numpy()]  # [N, H, W, C]
    if labels is not None:
        arrays.append(labels.numpy())

    def write(path: Path) -> None:
        with open(path, "wb") as stream:  # by stream, because numpy appends .npz to other names
            np.savez(stream, *arrays, made_by=np.array(json.dumps(generation)))

    write_whole(file, write)
