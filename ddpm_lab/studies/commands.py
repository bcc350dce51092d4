"""Commands of the lab, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from ddpm_lab.runtime import live_runs
from ddpm_lab.runtime.signals import Interrupted, stop_with_parent

STOPPED = {128 + number for number in (signal.SIGINT, signal.SIGTERM)}


class Lab:
    """Runs commands, all with the same number of threads and on the same device."""

    def __init__(self, threads: int, device: str | None) -> None:
        self.env = {**os.environ, live_runs.FIXED: str(threads)}
        self.device = ["--device", device] if device else []

    def __call__(self, *words: str) -> int:
        """Its exit status. If this process is killed, the command is asked to stop, and saves.

        Raises:
            Interrupted: SIGINT or SIGTERM stopped it.
        """
        command = [sys.executable, "-m", "ddpm_lab", *words, *self.device]
        child = subprocess.Popen(command, env=self.env, preexec_fn=stop_with_parent())
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
