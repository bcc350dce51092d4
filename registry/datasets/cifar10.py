"""CIFAR-10."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from registry.datasets import DATASETS, ImageSet, Split
from registry.datasets.sources import Arrays, from_folder_or_anywhere, hub_arrays
from registry.errors import BadInput
from registry.files import ARRAYS, read_file

HUB_NAME = "uoft-cs/cifar10"
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIZES = {"train": 50_000, "test": 10_000}
BINARY = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
RECORD = 1 + 3 * 32 * 32  # bytes: the label, then red, green and blue row by row


@DATASETS.register("cifar10")
def cifar10(*, folder: str | None = None) -> ImageSet:
    """CIFAR-10, 50,000 + 10,000 photographs of 3 x 32 x 32 in ten classes (Krizhevsky 2009).

    From the hub, or from `folder` with the six files of its binary version.
    """
    remedy = "connect to the hub, or unpack the binary version in a folder and set `dataset: {name: cifar10, folder: PATH}`"
    hub = {f"hub {HUB_NAME}": lambda: hub_arrays(HUB_NAME, {"train": "train", "test": "test"}, "img", "label")}
    arrays, source = from_folder_or_anywhere("cifar10", folder, _from_binary, hub, _verified, remedy)
    train, test = (Split(arrays[f"{part}-images"], arrays[f"{part}-labels"].long()) for part in SIZES)
    return ImageSet("cifar10", train, test, CLASS_NAMES, source, "none stated; cite Krizhevsky 2009")


def _from_binary(folder: Path) -> Arrays:
    arrays: Arrays = {}
    for part, names in BINARY.items():
        records = torch.cat([_records(folder / name) for name in names])
        arrays[f"{part}-images"] = records[:, 1:].reshape(-1, 3, 32, 32).contiguous()
        arrays[f"{part}-labels"] = records[:, 0].contiguous()
    return arrays


def _records(file: Path) -> Tensor:
    """uint8 [10000, RECORD]."""
    if not file.is_file():
        raise BadInput(f"dataset.folder: no {file.name} in {file.parent}")
    if file.stat().st_size != 10_000 * RECORD:
        raise BadInput(f"{file}: {file.stat().st_size:,} bytes, not {10_000 * RECORD:,}; fetch it again")
    return torch.frombuffer(bytearray(read_file(file, ARRAYS)), dtype=torch.uint8).reshape(-1, RECORD)


def _verified(arrays: Arrays, source: str) -> Arrays:
    for part, count in SIZES.items():
        images, labels = arrays[f"{part}-images"], arrays[f"{part}-labels"]
        if images.dtype != torch.uint8 or images.shape != (count, 3, 32, 32):
            raise BadInput(f"{source}: {part} images are {list(images.shape)}, not {[count, 3, 32, 32]}")
        if labels.long().bincount(minlength=10).tolist() != [count // 10] * 10:
            raise BadInput(f"{source}: {part} does not have {count // 10:,} images of each class; fetch it again")
    return arrays
