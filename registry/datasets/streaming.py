"""Sets larger than memory: pictures are read when they are needed, by workers beside the training."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Generator, Iterable, Iterator
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from registry.datasets import Contents, Images, Split
from registry.datasets.cache import cache_folder
from registry.errors import BadInput
from registry.files import RECORD, read_text

PATIENCE = 30
MEMORY = 2**31  # bytes of pixels; a set with more is streamed


class StreamedImages(Images):
    """Pictures that stay on the disk; `key` changes when they do."""

    streamed = True

    def __init__(self, pictures: Dataset[Tensor], count: int, labels: Tensor | None, key: str) -> None:
        self.pictures, self.count, self.labels = pictures, count, labels
        self.key = hashlib.sha256(key.encode()).hexdigest()[:24]

    def __len__(self) -> int:
        return self.count

    @cached_property
    def image_shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """(C, H, W)."""
        channels, height, width = self.pictures[0].shape
        return channels, height, width

    def rows(self, indices: Tensor) -> Tensor:
        """The images of those numbers: [n, C, H, W]."""
        return torch.stack([self.pictures[int(index)] for index in indices])

    def batches(self, size: int) -> Iterator[Tensor]:
        """All images in order."""
        bar = tqdm(total=len(self), desc="reading the images", unit="image", leave=False, disable=None)
        with bar:
            for images in self.in_order(
                list(range(start, min(start + size, len(self)))) for start in range(0, len(self), size)
            ):
                yield images
                bar.update(len(images))

    def in_order(self, batches: Iterable[list[int]]) -> Generator[Tensor, None, None]:
        """The images of each batch of numbers, read ahead by a share of the cores."""
        workers = max(1, (os.cpu_count() or 2) // (2 * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
        loader: Iterable[Any] = DataLoader(
            _Kept(self.pictures), batch_sampler=cast(Any, batches), num_workers=workers, collate_fn=_stacked,
            worker_init_fn=_leave_signals_alone,
        )  # fmt: skip
        for images in loader:
            if isinstance(images, str):
                raise BadInput(images)
            yield images

    @cached_property
    def contents(self) -> Contents:
        """Hash and histogram, kept in the cache: they cost a pass over all images."""
        file = cache_folder() / "streamed" / f"{self.key}.json"
        try:
            found = Contents(**json.loads(read_text(file, RECORD)))
            if len(found.hash) == 64 and len(found.histogram) == 256:
                return found
        except (OSError, ValueError, TypeError):
            pass  # absent or damaged: it is computed again
        found = self._read_through()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            (aside := file.with_suffix(f".partial-{os.getpid()}")).write_text(json.dumps(found._asdict()), encoding="utf-8")
            os.replace(aside, file)
        except OSError:
            pass  # without a cache the next run reads them again
        return found


def as_images(pictures: Dataset[Tensor], chosen: Tensor, labels: Tensor | None, key: str, stream: bool | None) -> Images:
    """The chosen ones of the pictures (bool [N]), in memory or streamed; `stream` None: streamed where memory might not do."""
    indices = chosen.nonzero()[:, 0].tolist()
    labels = None if labels is None else labels[chosen]
    subset = Subset(pictures, indices)
    if stream is None:
        stream = len(indices) * pictures[indices[0]].numel() > MEMORY
    if stream:
        return StreamedImages(subset, len(indices), labels, f"{key} {hashlib.sha256(str(indices).encode()).hexdigest()}")
    return Split(torch.stack([subset[index] for index in range(len(indices))]), labels)


class _Kept(Dataset[Any]):
    """The same pictures; an error that says what is wrong comes back as its text, because a worker would bury it in its own."""

    def __init__(self, pictures: Dataset[Tensor]) -> None:
        self.pictures = pictures

    def __getitem__(self, index: int) -> Tensor | str:
        try:
            return self.pictures[index]
        except BadInput as error:
            return str(error)


def _stacked(pictures: list[Tensor | str]) -> Tensor | str:
    broken = next((picture for picture in pictures if isinstance(picture, str)), None)
    return broken if broken is not None else torch.stack(cast(list[Tensor], pictures))


def _leave_signals_alone(worker: int) -> None:
    """Ctrl-C, and a scheduler's SIGTERM, reach all processes; the training finishes its step, and ends its workers itself.

    A worker that it forgot is gone PATIENCE seconds after SIGTERM.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(PATIENCE))
