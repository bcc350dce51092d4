"""MNIST."""

from __future__ import annotations

from pathlib import Path

import torch

from registry.datasets import DATASETS, ImageSet, Split
from registry.datasets.idx import read_idx
from registry.datasets.sources import Arrays, from_folder_or_anywhere, hub_arrays, idx_file
from registry.errors import BadInput

HUB_NAME = "ylecun/mnist"
# How often each digit occurs, as every copy of the set has it.
COUNTS = {
    "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "t10k": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}


@DATASETS.register("mnist")
def mnist(*, folder: str | None = None) -> ImageSet:
    """MNIST, 60,000 + 10,000 digits of 28 x 28 (LeCun et al. 1998): from the hub, or `folder` with its four IDX files."""
    remedy = "connect to the hub, or put the four IDX files in a folder and set `dataset: {name: mnist, folder: PATH}`"
    hub = {f"hub {HUB_NAME}": lambda: hub_arrays(HUB_NAME, {"train": "train", "t10k": "test"}, "image", "label")}
    arrays, source = from_folder_or_anywhere("mnist", folder, _from_idx, hub, _verified, remedy)
    train, test = (Split(arrays[f"{part}-images"], arrays[f"{part}-labels"].long()) for part in COUNTS)
    return ImageSet("mnist", train, test, tuple("0123456789"), source, "CC BY-SA 3.0 (Yann LeCun and Corinna Cortes)")


def _from_idx(folder: Path) -> Arrays:
    try:
        return {
            f"{part}-{kind}": read_idx(idx_file(folder, f"{part}-{kind}-idx{sides}-ubyte")).reshape(shape)
            for part in COUNTS
            for kind, sides, shape in (("images", 3, (-1, 1, 28, 28)), ("labels", 1, (-1,)))
        }
    except (FileNotFoundError, RuntimeError) as error:  # no such folder; sizes that are not 28 x 28
        raise BadInput(f"dataset.folder: {error}") from None


def _verified(arrays: Arrays, source: str) -> Arrays:
    for part, counts in COUNTS.items():
        images, labels = arrays[f"{part}-images"], arrays[f"{part}-labels"]
        if images.dtype != torch.uint8 or images.shape != (sum(counts), 1, 28, 28):
            raise BadInput(f"{source}: {part} images are {list(images.shape)}, not {[sum(counts), 1, 28, 28]}")
        if labels.long().bincount(minlength=10).tolist() != counts:
            raise BadInput(f"{source}: the {part} labels do not count like MNIST's; fetch it again")
    return arrays
