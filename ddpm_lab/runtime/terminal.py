"""A terminal that goes away takes no run with it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO, cast


class _Lasting:
    """A stream whose failures lose the text and nothing else; after the first it leads to the null device."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._gone = stream, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if not self._gone:
            with self._failing():
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        if not self._gone:
            with self._failing():
                self._stream.flush()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):  # the pipe's reader or the terminal is gone; the stream is closed
            self._gone = True
            # What libraries and children write goes nowhere too, and Python's own flush at the end does not fail.
            with contextlib.suppress(OSError, ValueError):
                _lead_to_nowhere(self._stream.fileno())


@contextlib.contextmanager
def lasting_stderr() -> Iterator[None]:
    """Standard error for as long as the block lasts: it may be closed, or die at any time."""
    usual = sys.stderr
    if usual is None:  # Python found it closed
        with contextlib.suppress(OSError):
            _lead_to_nowhere(2)  # else the next file that is opened would be standard error
    stream = open(os.devnull, "w", encoding="utf-8") if usual is None else usual  # noqa: SIM115 - standard error until the process ends
    sys.stderr = cast(TextIO, _Lasting(stream))
    try:
        yield
    finally:
        sys.stderr = usual


@contextlib.contextmanager
def without_hangup() -> Iterator[None]:
    """The block continues when its terminal is closed; Ctrl-C and SIGTERM stop it as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, usual)


def _lead_to_nowhere(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)
