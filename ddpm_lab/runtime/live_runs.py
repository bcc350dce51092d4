"""The runs of the lab that are at work on this machine, and the share of its cores that falls to one of them.

A run holds an abstract Unix socket whose name says so, and the kernel lists these in /proc/net/unix. The name goes with the
process, however that ends; it needs no folder that can be written, and all users of the machine see it. Containers see each
other if they share their network. Systems other than Linux have no such names: there each run counts itself alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from ddpm_lab.runtime.launcher import local_rank
from registry.errors import BadInput

SOCKETS = Path("/proc/net/unix")
NAME = re.compile(r"@ddpm_lab-run-([0-9a-f]{16})-([0-9a-f]{0,70})$", re.MULTILINE)
FIXED = "DDPM_LAB_THREADS"  # what a suite or a sweep tells its runs: their number of threads; it counts in their place
_mine: list[str] = []


@contextlib.contextmanager
def announced() -> Iterator[None]:
    """Count as a run of the lab for as long as the block lasts; a suite or a sweep counts for its runs, one process for all."""
    if _mine or local_rank() > 0 or fixed() is not None or sys.platform != "linux":
        yield
        return
    token, cores = secrets.token_hex(8), f"{_mask():x}"
    name = f"\0ddpm_lab-run-{token}-{cores if len(cores) <= 70 else ''}"
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # it only goes uncounted
            stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)).bind(name)
        _mine.append(token)
        stack.callback(_mine.clear)
        yield


def others() -> int:
    """How many other runs are at work on cores that this process may use."""
    return sum(token not in _mine and bool(cores & _mask()) for token, cores in at_work().items())


def at_work() -> dict[str, int]:
    """All runs on this machine: a token of each, and the cores that it may use as a mask of bits."""
    try:
        listed = SOCKETS.read_text(errors="replace")
    except OSError:
        return {}
    # A name without its cores: they do not fit into one, and it counts everywhere.
    return {token: int(cores, 16) if cores else -1 for token, cores in NAME.findall(listed)}


def fixed() -> int | None:
    """The number of threads that a suite or a sweep has fixed for its runs, None where there is none.

    Raises:
        BadInput: the environment holds something else.
    """
    text = os.environ.get(FIXED)
    if text is None:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text):
        raise BadInput(
            f"{FIXED}: '{text[:40]}' is not a number of threads from 1 to 9999; `unset {FIXED}`, or set train.threads"
        )
    return int(text)


def _mask() -> int:
    """The cores that this process may use, a bit each; all where the system does not say."""
    return sum(1 << core for core in os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else -1
