"""Images from an .npz."""

from __future__ import annotations

from pathlib import Path

from registry.datasets import DATASETS, ImageSet, Split
from registry.datasets.arrays import held_out_of, image_set, labelled
from registry.datasets.npz_reader import read_images, read_labels
from registry.options import Fraction


@DATASETS.register("npz")
def npz(
    *, file: str, test_file: str | None = None, class_names: tuple[str, ...] | None = None, held_out: Fraction = 0.1
) -> ImageSet:
    """An .npz of uint8 `arr_0` [N, H, W, C], one channel or three, and where it has them labels `arr_1` [N].

    Held out is `test_file`, or every 1 / `held_out`-th image where there is none.
    """
    train = _read(file)
    train, test = (train, _read(test_file)) if test_file is not None else held_out_of(train, held_out, file)
    return image_set("npz", train, test, class_names, file)


def _read(file: str) -> Split:
    path = Path(file).expanduser()
    return labelled(read_images(path), read_labels(path), file)
