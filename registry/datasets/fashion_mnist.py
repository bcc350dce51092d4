"""Fashion-MNIST, from wherever it can be had, always the same bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from registry.datasets import DATASETS, ImageSet, Split
from registry.datasets.idx import read_idx
from registry.datasets.sources import (
    Arrays,
    complaint,
    from_folder_or_anywhere,
    hub_arrays,
    idx_file,
    require_tools,
    require_values,
)  # fmt: skip

HUB_NAME = "zalando-datasets/fashion_mnist"
DEBIAN_NAME = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("usr/share/datasets/fashion-mnist")

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

# SHA-256 of the decoded values, row by row. The same arrays come from the hub, from Debian and from Zalando's own files.
ARRAYS = {
    "train-images-idx3-ubyte": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
    "train-labels-idx1-ubyte": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
    "t10k-images-idx3-ubyte": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
    "t10k-labels-idx1-ubyte": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
}

SHAPES = {
    name: (60_000 if name.startswith("train") else 10_000, *((28, 28) if "images" in name else ())) for name in ARRAYS
}  # fmt: skip


@DATASETS.register("fashion_mnist")
def fashion_mnist(*, folder: str | None = None) -> ImageSet:
    """Fashion-MNIST, 60,000 + 10,000 images of clothes, 28 x 28, in ten classes (Xiao et al. 2017, arXiv:1708.07747).

    Sources in order: the verified cache, the hub, the Debian package; or only `folder`, with the four IDX files.
    """
    arrays, source = from_folder_or_anywhere(
        "fashion_mnist",
        folder,
        _from_idx,
        {
            f"hub {HUB_NAME}": lambda: _from_hub(),
            f"/{DEBIAN_FOLDER}": lambda: _from_idx(Path("/") / DEBIAN_FOLDER),
            f"Debian package {DEBIAN_NAME}": lambda: _from_debian(),
        },
        _verified,
        f"connect to the hub, or `apt-get install {DEBIAN_NAME}`, or put the four IDX files in a folder and set"
        " `dataset: {name: fashion_mnist, folder: PATH}`",
    )
    train, test = (
        Split(arrays[f"{part}-images-idx3-ubyte"][:, None], arrays[f"{part}-labels-idx1-ubyte"].long())
        for part in ("train", "t10k")
    )
    return ImageSet("fashion_mnist", train, test, CLASS_NAMES, source, "MIT (Zalando SE)")


def _verified(arrays: Arrays, source: str) -> Arrays:
    return require_values("Fashion-MNIST", arrays, source, ARRAYS, SHAPES)


def _from_idx(folder: Path) -> Arrays:
    return {name: read_idx(idx_file(folder, name)) for name in ARRAYS}


def _from_hub() -> Arrays:
    found = hub_arrays(HUB_NAME, {"train": "train", "t10k": "test"}, "image", "label")
    arrays = {}
    for name in ARRAYS:
        array = found[name.rpartition("-idx")[0]]
        arrays[name] = array[:, 0] if "images" in name else array
    return arrays


def _from_debian() -> Arrays:
    require_tools("apt-get", "dpkg")
    with tempfile.TemporaryDirectory() as room:
        # The package lists go to the room too: no root needed, and a machine that never ran `apt-get update` will do.
        Path(room, "lists/partial").mkdir(parents=True)
        private = ["-o", f"Dir::State::Lists={room}/lists", "-o", "APT::Sandbox::User=root"]
        if complaint(["apt-get", "download", DEBIAN_NAME], room):
            complaint(["apt-get", *private, "update"], room)
            if failure := complaint(["apt-get", *private, "download", DEBIAN_NAME], room):
                raise ConnectionError(failure[-1])
        (package,) = Path(room).glob("*.deb")
        if failure := complaint(["dpkg", "-x", str(package), room], room):
            raise ConnectionError(failure[-1])
        return _from_idx(Path(room) / DEBIAN_FOLDER)
