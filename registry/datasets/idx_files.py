"""Images from IDX files, as MNIST and its descendants have them."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from registry.datasets import DATASETS, ImageSet, Split
from registry.datasets.arrays import held_out_of, image_set, labelled
from registry.datasets.idx import LARGEST, read_idx
from registry.errors import BadInput
from registry.options import Fraction

DENSEST = 50  # times its size on disk; MNIST deflates to a fifth


@DATASETS.register("idx")
def idx(
    *,
    images: str,
    labels: str | None = None,
    test_images: str | None = None,
    test_labels: str | None = None,
    class_names: tuple[str, ...] | None = None,
    held_out: Fraction = 0.1,
) -> ImageSet:
    """IDX files, plain or gzipped: bytes [N, H, W] or [N, C, H, W], and their labels [N].

    Held out are `test_images`, or every 1 / `held_out`-th image where there are none.
    """
    train = _read(images, labels)
    if test_images is None and test_labels is not None:
        raise BadInput("test_labels: there are no test_images to go with them")
    train, test = (train, _read(test_images, test_labels)) if test_images is not None else held_out_of(train, held_out, images)
    return image_set("idx", train, test, class_names, images)


def _read(images: str, labels: str | None) -> Split:
    pixels = _values(images)
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        raise BadInput(f"{images}: its sizes are {list(pixels.shape)}; [N, H, W], or [N, C, H, W] of gray or RGB, was expected")
    if labels is None:
        return Split(pixels, None)
    numbers = _values(labels)
    if numbers.ndim != 1:
        raise BadInput(f"{labels}: its sizes are {list(numbers.shape)}; labels [N] were expected")
    return labelled(pixels, numbers.long(), labels)


def _values(file: str) -> Tensor:
    path = Path(file).expanduser()
    size = path.stat().st_size if path.is_file() else 0
    return read_idx(path, max(LARGEST, DENSEST * size))
