"""What is done to images so that their values differ: by numpy and PIL, without the lab's own code for it."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.uint8]  # [N, H, W, 1]


def jpeg(images: Array) -> Array:
    """Saved as JPEG of quality 75 and read again."""

    def through(image: Array) -> Array:
        Image.fromarray(image[..., 0]).save(stream := io.BytesIO(), "JPEG", quality=75)
        return np.asarray(Image.open(stream))[..., None]

    return np.stack([through(one) for one in images])


def nearest(images: Array, size: int) -> Array:
    """So many pixels high and wide, each the nearest one."""
    rows = np.arange(size) * images.shape[1] // size
    return images[:, rows][:, :, rows]


def red(images: Array) -> Array:
    """The gray value in the first of three channels."""
    return np.concatenate([images, np.zeros_like(images), np.zeros_like(images)], axis=3)
