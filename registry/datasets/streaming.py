"""Sets larger than memory: pictures are read when they are needed, by workers beside the training."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Generator, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from registry.datasets import BATCH, Contents, Images, Split
from registry.datasets.cache import cache_folder
from registry.errors import BadInput
from registry.files import RECORD, read_text

Unreadable = Literal["stop", "skip"]  # what becomes of a set in which pictures cannot be read
Broken = dict[int, str]  # the number of an image, and why it cannot be read
PATIENCE = 30
GLANCE = 64  # images that every start looks at
NAMED = 3  # images that are left out, by name
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
        pictures = _Kept(self.pictures)
        for number in range(len(self)):
            if isinstance(picture := pictures[number], Tensor):
                channels, height, width = picture.shape
                return channels, height, width
        raise BadInput(str(pictures[0]))

    def rows(self, indices: Tensor) -> Tensor:
        """The images of those numbers: [n, C, H, W]."""
        return torch.stack([self.pictures[int(index)] for index in indices])

    def batches(self, size: int) -> Iterator[Tensor]:
        """All images in order.

        Raises:
            BadInput: one of them cannot be read.
        """
        for images, broken in self._all(size):
            _require_whole(broken)
            yield images

    def in_order(self, batches: Iterable[list[int]]) -> Generator[Tensor, None, None]:
        """The images of each batch of numbers, read ahead by a share of the cores; raises as `batches` does."""
        for images, broken in self._loaded(batches):
            _require_whole(broken)
            yield images

    @property
    def contents(self) -> Contents:  # type: ignore[override]
        """Hash and histogram, kept in the cache: they take a pass over all images."""
        return self._examined[0]

    @property
    def unreadable(self) -> Broken:
        """Which images cannot be read, by their numbers, and why; found by the same pass."""
        return self._examined[1]

    def glance(self) -> Broken:
        """The same of a few images, evenly spread: what a pass that was made long ago does not know."""
        pictures = _Kept(self.pictures)
        numbers = torch.linspace(0, len(self) - 1, min(GLANCE, len(self))).long().tolist()
        return {number: text for number in numbers if isinstance(text := pictures[number], str)}

    @cached_property
    def _examined(self) -> tuple[Contents, Broken]:
        file = cache_folder() / "streamed" / f"{self.key}.json"
        if (known := self._known(file)) is not None:
            return known
        broken: Broken = {}

        def readable() -> Iterator[Tensor]:
            start = 0
            for images, trouble in self._all(BATCH):
                broken.update((start + place, text) for place, text in trouble.items())
                start += len(images) + len(trouble)
                yield images

        found = self._read_through(readable())
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(found._asdict() | {"unreadable": broken})
            (aside := file.with_suffix(f".partial-{os.getpid()}")).write_text(text, encoding="utf-8")
            os.replace(aside, file)
        except OSError:
            pass  # without a cache the next run reads them again
        return found, broken

    def _known(self, file: Path) -> tuple[Contents, Broken] | None:
        """What the cache has; nothing where it is absent or damaged, or where an image can be read by now."""
        try:
            kept = json.loads(read_text(file, RECORD))
            found = Contents(kept["hash"], kept["histogram"])
            broken = {int(number): str(text) for number, text in kept["unreadable"].items()}
            pictures = _Kept(self.pictures)
            still = all(isinstance(pictures[number], str) for number in broken)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError):
            return None
        return (found, broken) if still and len(found.hash) == 64 and len(found.histogram) == 256 else None

    def _all(self, size: int) -> Iterator[tuple[Tensor, Broken]]:
        with tqdm(total=len(self), desc="reading the images", unit="image", leave=False, disable=None) as bar:
            numbers = (list(range(start, min(start + size, len(self)))) for start in range(0, len(self), size))
            for images, broken in self._loaded(numbers):
                yield images, broken
                bar.update(len(images) + len(broken))

    def _loaded(self, batches: Iterable[list[int]]) -> Iterator[tuple[Tensor, Broken]]:
        """The images of each batch that can be read, and what is wrong with the others, by their places in it."""
        workers = max(1, (os.cpu_count() or 2) // (2 * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
        loader: Iterable[Any] = DataLoader(
            _Kept(self.pictures), batch_sampler=cast(Any, batches), num_workers=workers, collate_fn=_stacked,
            worker_init_fn=_leave_signals_alone,
        )  # fmt: skip
        yield from loader


def as_images(
    pictures: Dataset[Tensor], chosen: Tensor, labels: Tensor | None, key: str, stream: bool | None, unreadable: Unreadable
) -> tuple[Images, list[str]]:
    """The chosen ones of the pictures (bool [N]), in memory or streamed; and what was left out because it cannot be read.

    `stream` None: streamed where memory might not do.

    Raises:
        BadInput: pictures cannot be read, and are not to be left out, or none can.
    """
    numbers = chosen.nonzero()[:, 0]
    images, broken = _read(Subset(pictures, numbers.tolist()), numbers, labels, key, stream, unreadable == "stop")
    if broken and (unreadable == "stop" or len(broken) == len(numbers)):
        count = f"{len(broken):,} of {len(numbers):,} images cannot be read"
        remedy = "fix or remove them" + (", or leave them out by dataset.unreadable=skip" if unreadable == "stop" else "")
        raise BadInput(f"{next(iter(broken.values()))}; {count}; {remedy}")
    if broken:
        keep = torch.tensor([number not in broken for number in range(len(numbers))])
        numbers = numbers[keep]
        images, _ = _read(Subset(pictures, numbers.tolist()), numbers, labels, key, stream, False)
    return images, list(broken.values())


def left_out(texts: list[str]) -> str:
    """`, 2 images left out: a.png, b.png`, for the words that say where a set comes from; nothing where all were read."""
    if not texts:
        return ""
    names = [text.partition(": cannot be read")[0] for text in texts[:NAMED]]
    return f", {len(texts):,} unreadable images left out: {', '.join(names)}{' ...' if len(texts) > NAMED else ''}"


def _read(
    subset: Subset[Tensor], numbers: Tensor, labels: Tensor | None, key: str, stream: bool | None, glance: bool
) -> tuple[Images, Broken]:
    labels, pictures = None if labels is None else labels[numbers], _Kept(subset)
    if stream is None:
        first = next((picture for number in range(len(numbers)) if isinstance(picture := pictures[number], Tensor)), None)
        stream = first is not None and len(numbers) * first.numel() > MEMORY
    if stream:
        images = StreamedImages(
            subset, len(numbers), labels, f"{key} {hashlib.sha256(str(numbers.tolist()).encode()).hexdigest()}"
        )
        return images, (glance and images.glance()) or images.unreadable
    found, broken = _stacked([pictures[number] for number in range(len(numbers))])
    return Split(found, labels), broken


class _Kept(Dataset[Any]):
    """The same pictures; an error that says what is wrong comes back as its text, because a worker would bury it in its own."""

    def __init__(self, pictures: Dataset[Tensor]) -> None:
        self.pictures = pictures

    def __getitem__(self, index: int) -> Tensor | str:
        try:
            return self.pictures[index]
        except BadInput as error:
            return str(error)


def _stacked(pictures: list[Tensor | str]) -> tuple[Tensor, Broken]:
    broken = {place: picture for place, picture in enumerate(pictures) if isinstance(picture, str)}
    whole = [picture for picture in pictures if not isinstance(picture, str)]
    return (torch.stack(whole) if whole else torch.zeros(0, dtype=torch.uint8)), broken


def _require_whole(broken: Broken) -> None:
    for text in broken.values():
        raise BadInput(text)


def _leave_signals_alone(worker: int) -> None:
    """Ctrl-C, and a scheduler's SIGTERM, reach all processes; the training finishes its step, and ends its workers itself.

    A worker that it forgot is gone PATIENCE seconds after SIGTERM.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(PATIENCE))
