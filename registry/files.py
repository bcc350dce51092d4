"""The one way in for files from outside: regular ones, and no larger than files of their kind are."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import BinaryIO, NamedTuple

from registry.errors import BadInput


class Kind(NamedTuple):
    """What a file is to be, in words, and the most bytes that such a file has."""

    name: str
    largest: int


# The YAML parser takes two seconds for the worst text of that length, and no experiment is a tenth as long.
YAML = Kind("experiment", 2**18)
PLUGIN = Kind("plugin", 2**22)
RECORD = Kind("record of a run", 2**28)  # JSON that the lab has written
ROWS = Kind("log of a run", 2**32)
CHECKSUM = Kind("checksum", 2**12)
PICTURE = Kind("picture", 2**28)
ARRAYS = Kind("set of images", 2**37)
WEIGHTS = Kind("set of weights", 2**40)

_WORDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


def open_file(file: Path, kind: Kind) -> BinaryIO:
    """The file, opened for reading.

    A pipe would be waited for, and a device has no end; neither is opened.

    Raises:
        OSError: it is not there, or may not be read.
        BadInput: it is not a regular file, or larger than its kind.
    """
    size = _size(file, kind)
    # What /proc shows says that it is empty, and may have no end; an empty file is known without being read.
    return open(file, "rb") if size else io.BytesIO()


def read_file(file: Path, kind: Kind) -> bytes:
    """The content of the file; raises as `open_file` does."""
    with open_file(file, kind) as stream:
        return stream.read()  # not the largest of its kind: Python would set that much memory aside


def read_text(file: Path, kind: Kind) -> str:
    """The content of the file as UTF-8, errors marked; raises as `open_file` does."""
    return read_file(file, kind).decode("utf-8", errors="replace")


def required(file: Path, kind: Kind) -> Path:
    """The path, for readers that open it themselves.

    Raises:
        OSError: it is not there.
        BadInput: as above, or it is empty.
    """
    if not _size(file, kind):
        raise BadInput(f"{file}: empty, which no {kind.name} is")
    return file


def require_regular(file: Path, status: os.stat_result) -> None:
    """BadInput where the file is something else than a file of bytes."""
    if not stat.S_ISREG(status.st_mode):
        raise BadInput(f"{file}: {_WORDS.get(stat.S_IFMT(status.st_mode), 'no file')}, where a regular file is expected")


def _size(file: Path, kind: Kind) -> int:
    try:
        status = os.stat(file)
    except ValueError:
        raise BadInput(f"'{file}' is not a path, because of the zero byte in it") from None
    require_regular(file, status)
    if status.st_size > kind.largest:
        raise BadInput(f"{file}: longer than {kind.largest:,} bytes, which no {kind.name} is")
    return status.st_size
