"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from registry.files import WEIGHTS, open_file


def write_whole(file: Path, write: Callable[[Path], object]) -> None:
    """`write(path)` to a temporary beside `file`, synced to disk, then renamed over it."""
    # The suffix stays last, because libraries choose a format by it.
    aside = file.with_name(f".partial-{os.getpid()}-{file.name}")
    try:
        write(aside)
        with open(aside, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(aside, file)
    finally:
        aside.unlink(missing_ok=True)


def sha256(file: Path) -> str:
    """The hash of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with open_file(file, WEIGHTS) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def numbered(folder: Path, ending: str) -> list[tuple[int, Path]]:
    """The files whose names are a number of nine digits and then fit `ending`, a regular expression; in order.

    Whatever else lies in the folder is somebody else's.
    """
    form = re.compile(rf"([0-9]{{9,18}}){ending}")
    return sorted((int(match[1]), file) for file in folder.glob("*") if (match := form.fullmatch(file.name)))


def write_text(file: Path, text: str) -> None:
    """Text, whole."""
    write_whole(file, lambda path: path.write_text(text, encoding="utf-8"))
