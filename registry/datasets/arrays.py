"""From arrays that somebody has made to a data set: what was held out, and what the classes are called."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from registry.datasets import ImageSet, Split
from registry.datasets.pictures import held_out_mask
from registry.errors import BadInput

MOST = 100_000  # classes


def labelled(images: Tensor, labels: Tensor | None, where: str) -> Split:
    """Images with their labels, if there are as many of both.

    Raises:
        BadInput: there are not, or a label is not the number of a class.
    """
    if labels is not None and len(labels) != len(images):
        raise BadInput(f"{where}: {len(images)} images, but {len(labels)} labels")
    if labels is not None and (int(labels.min()) < 0 or int(labels.max()) >= MOST):
        raise BadInput(f"{where}: labels run from {int(labels.min())} to {int(labels.max())}; 0 to K - 1 was expected")
    return Split(images, labels)


def held_out_of(split: Split, held_out: float, where: str) -> tuple[Split, Split]:
    """The images to learn from, and every 1 / `held_out`-th for testing."""
    test = held_out_mask(len(split), held_out, where)
    train, tested = (
        Split(split.images[chosen], None if split.labels is None else split.labels[chosen]) for chosen in (~test, test)
    )
    return train, tested


def image_set(name: str, train: Split, test: Split, class_names: Sequence[str] | None, where: str) -> ImageSet:
    """The whole, once labels, names and sizes fit each other.

    Classes without names are called 0, 1 ...

    Raises:
        BadInput: they do not fit.
    """
    if train.image_shape != test.image_shape:
        raise BadInput(f"{where}: training images are {list(train.image_shape)}, held-out ones {list(test.image_shape)}")
    if (train.labels is None) != (test.labels is None):
        raise BadInput(f"{where}: training and held-out images both need labels, or neither")
    if train.labels is None or test.labels is None:
        if class_names:
            raise BadInput(f"{where}: class_names are given, but there are no labels")
        return ImageSet(name, train, test, None, where)
    count = int(max(train.labels.max(), test.labels.max())) + 1
    if class_names is not None and count > len(class_names):
        raise BadInput(f"{where}: {len(class_names)} class_names, but there is a label {count - 1}; name them all")
    return ImageSet(name, train, test, tuple(class_names or map(str, range(count))), where)
