"""A W&B sweep file run on this machine, without an account: optuna searches, each trial is a run of the lab in a process."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from optuna.trial import Trial, TrialState

from ddpm_lab.config.named_files import SWEEPS, find
from ddpm_lab.runtime import live_runs
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.signals import BAD_INPUT, FAILURE, Interrupted
from ddpm_lab.storage.files import write_text
from ddpm_lab.storage.measurement import read_result
from ddpm_lab.storage.names import require_study_name
from ddpm_lab.storage.results_folder import with_id
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.sweeps import wandb_file as sweep_file
from ddpm_lab.sweeps.results import plot, table
from ddpm_lab.sweeps.study import Study
from ddpm_lab.sweeps.ties import tied_with_best
from ddpm_lab.sweeps.wandb_file import ARGUMENTS
from registry.errors import BadInput

POLL = 0.5  # seconds
INTERRUPTED = {128 + number for number in (signal.SIGINT, signal.SIGTERM)}


class Sweep:
    """A study in `results/sweeps/<name>/`, which any number of processes may work on, and resume at any time."""

    def __init__(self, name: str, overrides: list[str], budget: str | None, results: Path, device: str | None) -> None:
        """Starts the study, or opens it.

        Raises:
            BadInput: the file cannot be used, or the study was started with another.
        """
        file = find("sweep", name, SWEEPS)
        self.plan = sweep_file.read(file)
        if self.plan.metric is None:
            raise BadInput(f"{file}: metric: trials are ranked by it; add {{name: FID/fashion_cnn, goal: minimize}}")
        self.metric, self.name, self.results = self.plan.metric, require_study_name(file), results
        self.extra = [*overrides, "--results", str(results)]
        self.extra += ["--budget", budget] if budget else []
        self.extra += ["--device", device] if device else []
        self.folder = results / "sweeps" / self.name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"--results: {self.folder} cannot be written ({error.strerror}); name a folder that can") from None
        self._signal = 0
        self._child: subprocess.Popen[bytes] | None = None
        identity = json.dumps([self.plan.model_dump(mode="json"), overrides, budget], sort_keys=True)
        conflict = (
            f"{self.folder}: was started with another {file.name}, other overrides or another budget; continue with those, or"
            " give the file another name to start again"
        )
        self.study = Study(self.folder, self.plan, self.metric, identity, conflict)

    def execute(self) -> None:
        """Run what is left of the trials, then show the table and plot it.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the trial that ran is saved, and the next start resumes it.
        """
        with self._signals():
            while (found := self.study.next()) is not None:
                trial, lock = found
                try:
                    self._run(trial)
                finally:
                    lock.release()
                if self._signal:
                    say(f"sweep {self.name}: interrupted; the same command resumes it")
                    raise Interrupted(self._signal)
        self.report()

    def report(self) -> None:
        """The table on standard output, and beside the study as CSV; the plot as PNG."""
        rows = self.study.rows()
        running = sum(row.state == "running" for row in rows)
        text, csv = table(rows, self.metric)
        print("\n".join(filter(None, (text, tied_with_best(rows, self.metric.name)))))
        write_text(self.folder / "table.csv", csv)
        if plot(rows, self.metric, self.plan.flat, self.folder / "plot.png"):
            say(f"plot: {self.folder / 'plot.png'}")
        say(f"table: {self.folder / 'table.csv'}" + (f"; {running} trials still run in other processes" if running else ""))

    def _run(self, trial: Trial) -> None:
        values = self.study.values(trial)
        run_id = trial.user_attrs.get("id", f"{self.name}-{trial.number}")
        trial.set_user_attr("id", run_id)
        words = sweep_file.arguments(values)
        total = self.plan.run_cap or len(self.study.trials())
        shown = sweep_file.dotted({".".join(path): value for path, value in values.items()})
        told = " ".join(f"{name}={value}" for name, value in shown.items())
        say(f"sweep {self.name}: trial {trial.number + 1} of {total}: {told}")
        environment = os.environ | {"WANDB_RUN_GROUP": os.environ.get("WANDB_RUN_GROUP", self.name)}
        environment[live_runs.FIXED] = str(self.study.threads)  # the same for all trials, as it changes the last bits
        command = [*self._command(words), *self.extra, "--id", run_id]
        self._child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
        pruned = self._follow(trial, run_id)
        status, self._child = self._child.wait(), None
        folder = with_id(self.results, None, run_id)
        if folder is not None:
            trial.set_user_attr("run", str(folder.path))
        if self._signal and status in {*INTERRUPTED, -signal.SIGKILL}:
            return  # it stays a running trial, without a process
        value = None
        if status == 0:
            value, status = self._value(folder, trial)
        trial.set_user_attr("status", status)
        if pruned and status in INTERRUPTED:
            self.study.optuna.tell(trial, state=TrialState.PRUNED)
        elif value is not None:
            self.study.optuna.tell(trial, value)
        else:
            self.study.optuna.tell(trial, state=TrialState.FAIL)

    def _follow(self, trial: Trial, run_id: str) -> bool:
        """Wait for the run; whether it was stopped because it is not among the best."""
        assert self._child is not None
        pruned, reported = False, len(self.study.optuna.trials[trial.number].intermediate_values)
        while self._child.poll() is None:
            time.sleep(POLL)
            folder = with_id(self.results, None, run_id) if self.plan.early_terminate and not pruned else None
            values = [value for _, value in folder.series(self.metric.name)] if folder else []
            for step, value in enumerate(values[reported:], reported + 1):
                trial.report(value, step)
                reported = step
                if trial.should_prune():
                    say(f"sweep {self.name}: {self.metric.name} = {value:.4g} at value {step} is not among the best; stopped")
                    pruned = True
                    self._child.terminate()
                    break
        return pruned

    def _value(self, folder: RunFolder | None, trial: Trial) -> tuple[float | None, int]:
        """The result of a run that ended with status 0, and the status that it should have ended with."""
        name = self.metric.name
        if folder is None or not folder.finished:
            say(f"sweep {self.name}: the run ended without a result, so it has failed; the next start tries it again")
            return None, FAILURE
        try:
            result = read_result(folder.result)
            values, seconds = result.by_name, result.training_seconds
            during = folder.series(name)
            # A value during training does not stand for the result where that is NaN or infinite.
            measured = name in {f"{line.metric}/{line.extractor}" for line in result.metrics}
            value = values.get(name, during[-1][1] if during and not measured else None)
            value = None if value is None else float(value)
            if seconds is None:
                raise ValueError("it does not say how long it took")
        except (OSError, ValueError, KeyError, TypeError):
            say(f"sweep {self.name}: {folder.result} is damaged; remove it, and the next start makes it again")
            return None, FAILURE
        trial.set_user_attr("fingerprint", values.get(f"{name}/fingerprint"))
        trial.set_user_attr("seconds", seconds)
        if value is None or not math.isfinite(value):
            say(f"sweep {self.name}: that run has no {name}; see `metric` in the sweep file")
            return None, BAD_INPUT
        return value, 0

    def _command(self, words: list[str]) -> list[str]:
        """As an agent makes it; `ddpm-lab` is this lab."""
        told: dict[str, list[str]] = {
            "${env}": ["/usr/bin/env"], "${interpreter}": [sys.executable], "${program}": [str(self.plan.program)],
            ARGUMENTS: words, "ddpm-lab": [sys.executable, "-m", "ddpm_lab"],
        }  # fmt: skip
        return [word for piece in self.plan.command for word in told.get(piece, [piece])]

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
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
