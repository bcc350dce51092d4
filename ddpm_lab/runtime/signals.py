"""Exit statuses, and what a signal does to a run: 0, one of these, or 128 + the number of the signal."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from ddpm_lab.runtime.launcher import launched

BAD_INPUT, FAILURE = 2, 1
PR_SET_PDEATHSIG = 1  # as in linux/prctl.h


class Interrupted(Exception):
    """SIGINT or SIGTERM came; the state is saved, and can be resumed."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.status = 128 + signum


class NotFinite(RuntimeError):
    """Sampled images, or their features, hold NaN or infinite numbers; as uint8 such images would look like any others."""


def stop_with_parent() -> Callable[[], None] | None:
    """For `preexec_fn` of a process: it gets SIGTERM when this one ends, also where that is killed and cannot pass on a signal.

    The kernel does that on Linux, for the thread that starts it; on other systems such a process runs to its end.
    """
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()  # looked up before the fork, where other threads may hold locks

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before that
            os.kill(os.getpid(), signal.SIGTERM)

    return ask


SAME_REQUEST = 3.0  # seconds: torchrun passes on the Ctrl-C that the terminal has sent already


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that receives the first SIGINT or SIGTERM; a second one has its usual effect, at once."""
    received: list[int] = []
    usual: dict[signal.Signals, Any] = {}
    first = [0.0]

    def receive(signum: int, frame: Any) -> None:
        if received and launched() and time.monotonic() - first[0] < SAME_REQUEST:
            return
        if received:
            for number, handler in usual.items():
                signal.signal(number, handler)
            os.kill(os.getpid(), signum)
        first[0] = time.monotonic()
        received.append(signum)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            usual[number] = signal.signal(number, receive)
    except ValueError:
        pass  # signals belong to the main thread; in another one the run is stopped as Python stops it
    try:
        yield received
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
