"""A W&B sweep file run on this machine, without an account: optuna searches, each trial is a run of the lab in a process."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from subprocess import Popen

from optuna.trial import Trial, TrialState

from ddpm_lab.config.named_files import SWEEPS, find
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.signals import BAD_INPUT, FAILURE
from ddpm_lab.storage.files import write_text
from ddpm_lab.storage.measurement import read_result
from ddpm_lab.storage.names import require_study_name
from ddpm_lab.storage.results_folder import with_id
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.sweeps import wandb_file as sweep_file
from ddpm_lab.sweeps.commands import INTERRUPTED, Commands
from ddpm_lab.sweeps.confirmation import Again, Confirmation, require_measured
from ddpm_lab.sweeps.results import plot, table
from ddpm_lab.sweeps.study import Study
from ddpm_lab.sweeps.ties import tied_with_best
from registry.errors import BadInput

POLL = 0.5  # seconds


class Sweep:
    """A study in `results/sweeps/<name>/`, which any number of processes may work on, and resume at any time."""

    def __init__(
        self, name: str, overrides: list[str], budget: str | None, results: Path, device: str | None, again: Again | None = None
    ) -> None:
        """Starts the study, or opens it; `again`: what is run again once it is finished.

        Raises:
            BadInput: the file cannot be used, or the study was started with another.
        """
        file = find("sweep", name, SWEEPS)
        self.plan = sweep_file.read(file)
        if self.plan.metric is None:
            raise BadInput(f"{file}: metric: trials are ranked by it; add {{name: FID/fashion_cnn, goal: minimize}}")
        self.metric, self.name, self.results, self.again = self.plan.metric, require_study_name(file), results, again
        if again:
            require_measured(self.metric, f"{file}: metric")
        more = [*overrides, "--results", str(results)]
        more += ["--budget", budget] if budget else []
        more += ["--device", device] if device else []
        self.folder = results / "sweeps" / self.name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"--results: {self.folder} cannot be written ({error.strerror}); name a folder that can") from None
        identity = json.dumps([self.plan.model_dump(mode="json"), overrides, budget], sort_keys=True)
        conflict = (
            f"{self.folder}: was started with another {file.name}, other overrides or another budget; continue with those, or"
            " give the file another name to start again"
        )
        self.study = Study(self.folder, self.plan, self.metric, identity, conflict)
        self.commands = Commands(self.plan, self.name, more, self.study.threads, results)

    def execute(self) -> None:
        """Run what is left of the trials, then show the table and plot it; then run the best again where that is asked for.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the run is saved, and the next start resumes it.
            BadInput: the best trials cannot be told, or what was run again was measured in another way.
        """
        with self.commands.signals():
            while self._next() or (self.again and self._waits()):
                self.commands.require_going_on()
            self.report()
            if self.again:
                Confirmation(self.study, self.commands, self.results, self.again).execute()

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

    def _next(self) -> bool:
        """Run a trial; False where none is left that another process has not."""
        found = self.study.next()
        if found is None:
            return False
        trial, lock = found
        try:
            self._run(trial)
        finally:
            lock.release()
        return True

    def _waits(self) -> bool:
        """Wait a little where other processes still run trials, of which one may be the best; False where none does."""
        if any(row.state == "running" for row in self.study.rows()):
            time.sleep(POLL)
            return True
        return False

    def _run(self, trial: Trial) -> None:
        values = self.study.values(trial)
        run_id = trial.user_attrs.get("id", f"{self.name}-{trial.number}")
        trial.set_user_attr("id", run_id)
        words = sweep_file.arguments(values)
        total = self.plan.run_cap or len(self.study.trials())
        shown = sweep_file.dotted({".".join(path): value for path, value in values.items()})
        told = " ".join(f"{name}={value}" for name, value in shown.items())
        say(f"sweep {self.name}: trial {trial.number + 1} of {total}: {told}")
        child = self.commands.start(words, run_id)
        pruned = self._follow(child, trial, run_id)
        status = child.wait()
        folder = with_id(self.results, None, run_id)
        if folder is not None:
            trial.set_user_attr("run", str(folder.path))
        if self.commands.stopped(status):
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

    def _follow(self, child: Popen[bytes], trial: Trial, run_id: str) -> bool:
        """Wait for the run; whether it was stopped because it is not among the best."""
        pruned, reported = False, len(self.study.optuna.trials[trial.number].intermediate_values)
        while child.poll() is None:
            time.sleep(POLL)
            folder = with_id(self.results, None, run_id) if self.plan.early_terminate and not pruned else None
            values = [value for _, value in folder.series(self.metric.name)] if folder else []
            for step, value in enumerate(values[reported:], reported + 1):
                trial.report(value, step)
                reported = step
                if trial.should_prune():
                    say(f"sweep {self.name}: {self.metric.name} = {value:.4g} at value {step} is not among the best; stopped")
                    pruned = True
                    child.terminate()
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
