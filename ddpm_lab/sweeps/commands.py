"""The runs of a sweep, each in a process of its own, one after the other."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from ddpm_lab.runtime import live_runs
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.signals import Interrupted, stop_with_parent
from ddpm_lab.storage.results_folder import wait_until_free
from ddpm_lab.sweeps.wandb_file import ARGUMENTS, SweepFile

INTERRUPTED = {128 + number for number in (signal.SIGINT, signal.SIGTERM)}


class Commands:
    """Starts them as the sweep file says, all with the same number of threads, and passes on the signals that come."""

    def __init__(self, plan: SweepFile, name: str, more: Sequence[str], threads: int, results: Path) -> None:
        """`more`: what every command ends with."""
        self.plan, self.name, self.more, self.results = plan, name, more, results
        self.environment = {
            **os.environ, "WANDB_RUN_GROUP": os.environ.get("WANDB_RUN_GROUP", name), live_runs.FIXED: str(threads)
        }  # fmt: skip
        self._signal = 0
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, words: Sequence[str], run_id: str) -> subprocess.Popen[bytes]:
        """The run of that id, with these words in the place of the sweep's parameters; begun, or resumed."""
        wait_until_free(self.results, run_id)
        command = [*self._command(words), *self.more, "--id", run_id]
        self._child = subprocess.Popen(
            command, env=self.environment, stdin=subprocess.DEVNULL, preexec_fn=stop_with_parent()
        )  # fmt: skip
        return self._child

    def stopped(self, status: int) -> bool:
        """Whether a run ended with that status because this process was asked to stop."""
        return bool(self._signal) and status in {*INTERRUPTED, -signal.SIGKILL}

    def require_going_on(self) -> None:
        """Nothing, until this process is asked to stop.

        Raises:
            Interrupted: SIGINT or SIGTERM came.
        """
        if self._signal:
            say(f"sweep {self.name}: interrupted; the same command resumes it")
            raise Interrupted(self._signal)

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """SIGTERM is passed to the run; Ctrl-C reaches the run by itself, being in the same group of processes."""

        def receive(number: int, _: FrameType | None) -> None:
            self._signal = number
            if number == signal.SIGTERM and self._child is not None:
                self._child.terminate()

        usual = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)

    def _command(self, words: Sequence[str]) -> list[str]:
        """As an agent makes it; `ddpm-lab` is this lab."""
        told: dict[str, Sequence[str]] = {
            "${env}": ["/usr/bin/env"], "${interpreter}": [sys.executable], "${program}": [str(self.plan.program)],
            ARGUMENTS: words, "ddpm-lab": [sys.executable, "-m", "ddpm_lab"],
        }  # fmt: skip
        return [word for piece in self.plan.command for word in told.get(piece, [piece])]
