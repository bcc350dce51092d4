"""A folder of image files."""

from __future__ import annotations

from pathlib import Path

import torch

from registry.datasets import DATASETS, ImageSet
from registry.datasets.pictures import FilePictures, Mode, held_out_mask
from registry.datasets.streaming import Unreadable, as_images, left_out
from registry.errors import BadInput
from registry.options import Fraction, Side


@DATASETS.register("image_folder")
def image_folder(
    *, folder: str, size: Side = 32, mode: Mode = "rgb", held_out: Fraction = 0.1, stream: bool | None = None,
    unreadable: Unreadable = "stop",
) -> ImageSet:  # fmt: skip
    """A folder of image files, or of one sub-folder per class; centre-cropped to a square and resized (antialiased).

    Every 1 / `held_out`-th image of the sorted list is kept for testing. `stream`: read the files when they are needed
    instead of holding all in memory (null: where that would take more than 2 GiB). `unreadable`: whether files that cannot be
    read stop the run, or are left out; either way they are named and counted before the training.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS  # as slow to import as torch

    root = Path(folder).expanduser()
    files = sorted(file for file in root.rglob("*") if file.suffix.lower() in IMG_EXTENSIONS)
    if not files:
        raise BadInput(f"{root}: no image file in it" if root.is_dir() else f"{root}: no such folder")
    names = sorted({file.relative_to(root).parts[0] for file in files if file.parent != root})
    labelled = len(names) > 1 and all(file.parent != root for file in files)
    labels = torch.tensor([names.index(file.relative_to(root).parts[0]) for file in files]) if labelled else None
    pictures = FilePictures(files, size, mode)
    if unreadable == "stop":
        _ = pictures[0]  # what is wrong with a file comes before what is wrong with their number
    test = held_out_mask(len(files), held_out, str(root))
    key = str([size, mode, [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]])
    (train, broken), (tested, more) = (as_images(pictures, chosen, labels, key, stream, unreadable) for chosen in (~test, test))
    source = f"{root}{left_out([*broken, *more])}"
    return ImageSet("image_folder", train, tested, tuple(names) if labelled else None, source)
