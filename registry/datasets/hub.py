"""Any data set of images on the hub, or in a folder that `datasets` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from registry.datasets import DATASETS, ImageSet
from registry.datasets.pictures import Mode, RowPictures, held_out_mask
from registry.datasets.sources import require_hub
from registry.datasets.streaming import Unreadable, as_images, left_out
from registry.errors import BadInput, did_you_mean, reason
from registry.options import Fraction, Side


@DATASETS.register("hub")
def hub(
    *,
    repo: str,
    config: str | None = None,
    split: str = "train",
    test_split: str | None = None,
    image: str = "image",
    label: str | None = None,
    size: Side = 32,
    mode: Mode = "rgb",
    held_out: Fraction = 0.1,
    stream: bool | None = None,
    unreadable: Unreadable = "stop",
) -> ImageSet:
    """Any data set on the hub, or a folder that `datasets.load_dataset` reads: columns `image` and `label` of a split.

    Centre-cropped to a square and resized (antialiased). Held out is `test_split`, or every 1 / `held_out`-th image where there
    is none. `stream`: read the rows when they are needed instead of holding all in memory (null: where that would take more
    than 2 GiB). `unreadable`: whether rows whose image cannot be read stop the run, or are left out.
    """
    rows = _rows(repo, config, split)
    names = _class_names(rows, label, f"{repo} {split}")
    everything = torch.ones(len(rows), dtype=torch.bool)
    if test_split is not None:
        halves = [(rows, everything), (tested := _rows(repo, config, test_split), torch.ones(len(tested), dtype=torch.bool))]
    else:
        test = held_out_mask(len(rows), held_out, repo)
        halves = [(rows, ~test), (rows, test)]
    (train, broken), (test_images, more) = (
        as_images(
            RowPictures(_with_images(half, image, repo), image, size, mode), chosen, _labels(half, label, names, repo),
            str([half._fingerprint, image, size, mode]), stream, unreadable,
        )
        for half, chosen in halves
    )  # fmt: skip
    source = f"{repo} ({split}, {test_split or f'{held_out:g} of it held out'}){left_out([*broken, *more])}"
    return ImageSet("hub", train, test_images, names, source)


def _rows(repo: str, config: str | None, split: str) -> Any:
    """A `datasets.Dataset`, memory-mapped.

    Raises:
        BadInput: it cannot be had.
    """
    local = Path(repo).expanduser()
    try:
        if not local.is_dir():
            require_hub(repo)
        import datasets  # slow to import

        return datasets.load_dataset(str(local) if local.is_dir() else repo, config, split=split)
    except Exception as error:  # whatever a server or a file dies of
        raise BadInput(f"dataset.repo: '{repo}', split '{split}', cannot be had: {reason(error)[:300]}") from None


def _with_images(rows: Any, image: str, repo: str) -> Any:
    if image not in rows.column_names:
        raise BadInput(f"dataset.image: '{repo}' has no column '{image}'; {did_you_mean(image, rows.column_names)}")
    if type(rows.features[image]).__name__ != "Image":
        kinds = [name for name, kind in rows.features.items() if type(kind).__name__ == "Image"]
        raise BadInput(
            f"dataset.image: column '{image}' of '{repo}' holds no images; columns that do: {', '.join(kinds) or 'none'}"
        )
    return rows


def _class_names(rows: Any, label: str | None, where: str) -> tuple[str, ...] | None:
    if label is None:
        return None
    if label not in rows.column_names:
        raise BadInput(f"dataset.label: '{where}' has no column '{label}'; {did_you_mean(label, rows.column_names)}")
    if names := getattr(rows.features[label], "names", None):
        return tuple(names)
    return tuple(str(value) for value in sorted(set(rows[label])))


def _labels(rows: Any, label: str | None, names: tuple[str, ...] | None, repo: str) -> Tensor | None:
    """int64 [N]; a column without names of its own is numbered by its sorted values."""
    if label is None or names is None:
        return None
    values = list(rows[label])
    if getattr(rows.features[label], "names", None):
        return torch.tensor(values) if min(values, default=0) >= 0 else None  # -1 stands for a label that is kept secret
    number = {name: index for index, name in enumerate(names)}
    if unknown := sorted({str(value) for value in values} - set(number)):
        raise BadInput(f"dataset.label: '{unknown[0]}' of '{repo}' occurs among the held-out images only")
    return torch.tensor([number[str(value)] for value in values])
