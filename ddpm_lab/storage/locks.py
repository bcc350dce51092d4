"""Locks between processes: held until they are released or their process ends, in whatever way."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from registry.errors import BadInput
from registry.files import require_regular

# What a file system without locks answers; on one nobody can be kept out, and every lock counts as taken.
UNSUPPORTED = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


def take_lock(file: Path) -> FileLock | None:
    """The lock of that file, which is made where there is none; None where another process holds it.

    It is held until `release()`, as long as somebody keeps the object. Children do not inherit it.

    Raises:
        OSError: the file cannot be made.
        BadInput: there is something else of that name.
    """
    try:
        return _acquired(file, 0)
    except Timeout:
        return None


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Wait until no other process holds the lock of that file, and hold it for the block. Raises as `take_lock`."""
    lock = _acquired(file, -1)
    try:
        yield
    finally:
        lock.release()


def _acquired(file: Path, timeout: int) -> FileLock:
    if file.is_symlink():  # what a link leads to may be locked by anybody
        raise BadInput(f"{file}: a link, where a lock is expected; remove it")
    if file.exists():
        require_regular(file, file.stat())
    # It could fall back to a file whose existence is the lock; that of a process that was killed would stay.
    lock = FileLock(file, timeout=timeout, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in UNSUPPORTED:  # a Timeout has no number
            raise
    return lock


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """One process at a time changes what is in that folder.

    The folder itself is locked, which filelock cannot do: a lock file would lie among what the folder is for.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
