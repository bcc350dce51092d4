"""What a run leaves on disk to be continued from (checkpoints) and to be sampled from (weights)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim.optimizer import StateDict

from ddpm_lab.runtime.console import say
from ddpm_lab.storage.files import numbered, sha256, write_text, write_whole
from registry.errors import BadInput, reason
from registry.files import CHECKSUM, read_text

VERSION = 1  # of the file; those of before do not say theirs, which is 1


@dataclass(frozen=True)
class Checkpoint:
    """A run after so many images: what its trainer resumes from, and how far its folder had come."""

    images: int
    rows: int  # of metrics.jsonl
    costs: Mapping[str, float]  # seconds of sampling and evaluating
    random_streams: int
    trainer: StateDict  # tensors, numbers, and containers of them by name


class Checkpoints:
    """The checkpoints of a run, `checkpoints/000080000.pt` after 80,000 images, each with its SHA-256 in a file beside it.

    The checksum is written last, so a checkpoint without one was never finished; `sha256sum -c *.sha256` verifies all.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, checkpoint: Checkpoint, keep: int) -> None:
        """Write it, once; the newest `keep` are kept.

        Raises:
            OSError: the disk is full, read-only or gone; the checkpoints that were there are as they were.
        """
        self.folder.mkdir(exist_ok=True)
        file = self.folder / f"{checkpoint.images:09d}.pt"
        if _checksum(file).exists():
            return  # the state after so many images is always the same
        # The trainer's state lies flat beside the rest, as in files of before.
        flat = {**checkpoint.trainer, **vars(checkpoint), "version": VERSION}
        del flat["trainer"]

        def write(path: Path) -> None:
            try:
                with open(path, "wb") as stream:
                    torch.save(flat, stream)
            except RuntimeError as error:
                # torch buries the stream's own error, which says what is wrong, under one of its own.
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None

        write_whole(file, write)
        write_text(_checksum(file), f"{sha256(file)}  {file.name}\n")
        finished = self._finished()
        for old in {*(old for _, old in numbered(self.folder, r"\.pt")), *finished} - set(finished[:keep]):
            _checksum(old).unlink(missing_ok=True)
            old.unlink(missing_ok=True)

    def newest(self) -> int | None:
        """The number of images of the newest finished checkpoint."""
        return next((int(file.stem) for file in self._finished()), None)

    def load(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, read without executing anything; None where none was ever finished.

        Raises:
            BadInput: all are damaged, or one holds something else.
        """
        damaged: list[Path] = []
        for file in self._finished():
            try:
                whole = read_text(_checksum(file), CHECKSUM).split()[0] == sha256(file)
            except (OSError, IndexError, BadInput):
                whole = False
            if whole:
                found = _read(file)
                for other in damaged:
                    _checksum(other).unlink()  # so that it is written again
                return found
            damaged.append(file)
            say(f"{file}: damaged (its SHA-256 is not the one in {_checksum(file).name}); going back to an older checkpoint")
        if damaged:
            raise BadInput(f"{self.folder}: every checkpoint is damaged; start a new run, without --resume")
        return None

    def _finished(self) -> list[Path]:
        """Newest first."""
        return [file.with_suffix("") for _, file in reversed(numbered(self.folder, r"\.pt\.sha256"))]


def _checksum(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _read(file: Path) -> Checkpoint:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise almost anything
        raise BadInput(f"{file}: not a checkpoint of tensors and numbers ({reason(error)})") from None
    if not isinstance(state, dict):
        raise BadInput(f"{file}: not a checkpoint of tensors and numbers by name")
    version, streams = state.get("version", 1), state.get("random_streams", 1)  # which version 1 of them did not record
    counts = state.get("images"), state.get("rows"), streams, version
    if not all(type(count) is int and count >= 0 for count in counts) or not isinstance(state.get("costs"), dict):
        raise BadInput(f"{file}: not the checkpoint of a run; it says nothing of images, rows and costs")
    if version > VERSION:
        raise BadInput(f"{file}: of version {version}; this ddpm_lab reads up to {VERSION}, so take a newer one")
    return Checkpoint(state["images"], state["rows"], state["costs"], streams, state)
