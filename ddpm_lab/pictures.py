"""PNG files of images, as grids."""

from __future__ import annotations

import math
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import make_grid, save_image

from ddpm_lab.files import write_whole

SHORTEST = 56  # pixels: smaller images are enlarged by a whole factor, so that an eye can judge them


def save_grid(file: Path, images: Tensor, columns: int | None = None) -> None:
    """uint8 images [N, C, H, W] as one PNG, in rows of `columns` (default: as square as it gets)."""
    factor = max(1, math.ceil(SHORTEST / images.shape[2]))
    enlarged = F.interpolate(images.float() / 255, scale_factor=factor, mode="nearest")
    grid = make_grid(enlarged, nrow=columns or math.ceil(math.sqrt(len(images))), padding=2, pad_value=0.5)
    write_whole(file, lambda path: save_image(grid, path))
