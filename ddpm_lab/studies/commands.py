"""Commands of the lab, each in a process of its own."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys

from ddpm_lab.runtime import live_runs
from ddpm_lab.runtime.signals import Interrupted

STOPPED = {128 + number for number in (signal.SIGINT, signal.SIGTERM)}
PR_SET_PDEATHSIG = 1  # as in linux/prctl.h


class Lab:
    """Runs commands, all with the same number of threads and on the same device."""

    def __init__(self, threads: int, device: str | None) -> None:
        self.env = {**os.environ, live_runs.FIXED: str(threads)}
        self.device = ["--device", device] if device else []

    def __call__(self, *words: str) -> int:
        """Its exit status. If this process is killed, so is the command; its checkpoint is where the next one resumes.

        Raises:
            Interrupted: SIGINT or SIGTERM stopped it.
        """
        command = [sys.executable, "-m", "ddpm_lab", *words, *self.device]
        child = subprocess.Popen(command, env=self.env, preexec_fn=_die_with_parent)
        usual = signal.signal(signal.SIGTERM, lambda *_: child.terminate())  # the run saves, and says so by its status
        try:
            status = child.wait()
        except KeyboardInterrupt:  # it has had the signal too, and saves
            status = child.wait() or 128 + signal.SIGINT
        finally:
            signal.signal(signal.SIGTERM, usual)
        if status in STOPPED:
            raise Interrupted(status - 128)
        return status


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
