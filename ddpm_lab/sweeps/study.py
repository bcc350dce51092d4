"""A W&B sweep file run on this machine, without an account: optuna searches, each trial is a run of the lab."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO, Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import OperationalError

from ddpm_lab.config.named_files import SWEEPS, find
from ddpm_lab.runtime import live_runs
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.host import pick_threads
from ddpm_lab.runtime.signals import BAD_INPUT, FAILURE, Interrupted
from ddpm_lab.storage.files import open_lock, write_text
from ddpm_lab.storage.json_text import read_json
from ddpm_lab.storage.names import require_study_name
from ddpm_lab.storage.run_folder import RunFolder, with_id
from ddpm_lab.sweeps import wandb_file as sweep_file
from ddpm_lab.sweeps.results import Row, draw, table
from ddpm_lab.sweeps.wandb_file import ARGUMENTS, Parameter
from ddpm_lab.tracking.uploader import summary
from registry.errors import BadInput, reason
from registry.files import require_regular

POLL = 0.5  # seconds
INTERRUPTED = {128 + number for number in (signal.SIGINT, signal.SIGTERM)}


class Sweep:
    """A study in `results/sweeps/<name>/`, which any number of processes may work on, and go on with at any time."""

    def __init__(self, name: str, overrides: list[str], budget: str | None, results: Path, device: str | None) -> None:
        """Begins the study, or opens it.

        Raises:
            BadInput: the file cannot be used, or the study was begun with another.
        """
        file = find("sweep", name, SWEEPS)
        self.plan = sweep_file.read(file)
        if self.plan.metric is None:
            raise BadInput(f"{file}: metric: trials are ranked by it; add {{name: FID/fashion_cnn, goal: minimize}}")
        self.metric, self.name, self.results = self.plan.metric, require_study_name(file), results
        self.flat = self.plan.flat
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
        with self._alone():
            self.study = self._open(json.dumps([self.plan.model_dump(mode="json"), overrides, budget], sort_keys=True), file)
            self.threads = pick_threads("auto", self.study.user_attrs.get("threads"))
            if "threads" not in self.study.user_attrs:
                self.study.set_user_attr("threads", self.threads)

    def execute(self) -> None:
        """Run what is left of the trials, then show the table and draw the plot.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the trial that ran is saved, and the next start goes on with it.
        """
        with self._signals():
            while (found := self._next()) is not None:
                trial, lock = found
                with lock:
                    self._run(trial)
                if self._signal:
                    say(f"sweep {self.name}: interrupted; start it again to go on")
                    raise Interrupted(self._signal)
        self.report()

    def report(self) -> None:
        """The table on standard output, and beside the study as CSV; the plot as PNG."""
        rows = [self._row(trial) for trial in self._trials()]
        running = sum(row.state == "running" for row in rows)
        text, csv = table(rows, self.metric)
        print(text)
        write_text(self.folder / "table.csv", csv)
        if draw(rows, self.metric, self.flat, self.folder / "plot.png"):
            say(f"plot: {self.folder / 'plot.png'}")
        say(f"table: {self.folder / 'table.csv'}" + (f"; {running} trials still run in other processes" if running else ""))

    def _open(self, identity: str, file: Path) -> optuna.Study:
        study = self._study()
        if study.user_attrs.get("identity", identity) != identity:
            raise BadInput(
                f"{self.folder}: was begun with another {file.name}, other overrides or another budget; go on with those, or"
                " give the file another name to begin anew"
            )
        if "identity" not in study.user_attrs:
            for values in self.plan.grid() if self.plan.method == "grid" else ():
                study.enqueue_trial({".".join(path): json.dumps(value) for path, value in values.items()})
            study.set_user_attr("identity", identity)
        for trial in study.get_trials(states=(TrialState.FAIL,)):
            # Bad input stays bad; what was killed, or had no disk, goes on where it was.
            if trial.user_attrs.get("status") != BAD_INPUT and trial.number not in (gone := _superseded(study)):
                study.enqueue_trial(trial.params, user_attrs={"id": trial.user_attrs["id"]})
                study.set_user_attr("superseded", [*gone, trial.number])
        return study

    def _study(self) -> optuna.Study:
        """The study on the disk, all of it read once.

        Raises:
            BadInput: its file is damaged.
            RuntimeError: it cannot be opened just now: the disk is full or read-only, or the file is locked.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        file = self.folder / "study.db"
        try:
            if file.exists():
                require_regular(file, file.stat())
                if not file.stat().st_size:
                    file.unlink()  # begun, and killed before it held anything; or a link to what has no end
            study = optuna.create_study(
                storage=self._storage(file), study_name=self.name, load_if_exists=True, direction=self.metric.goal,
                pruner=self._pruner(),
            )  # fmt: skip
            _ = study.user_attrs, [(trial.user_attrs, trial.params) for trial in study.trials]
        except OperationalError as error:
            raise RuntimeError(f"{file}: cannot be opened ({reason(error)[:200]})") from None
        except Exception as error:  # damage in a database comes to light as almost anything
            remedy = "give the sweep's file another name to begin anew; its finished trials stay runs of their own"
            raise BadInput(f"{file}: damaged ({reason(error)[:200]}); {remedy}") from None
        return study

    def _trials(self) -> list[FrozenTrial]:
        """Without those that failed and have another in their place."""
        gone = _superseded(self.study)
        return [trial for trial in self.study.trials if trial.number not in gone]

    def _storage(self, file: Path) -> optuna.storages.RDBStorage:
        # In an address, a folder's name with ? or % in it would be taken for something else.
        connect = {"creator": lambda: sqlite3.connect(file, check_same_thread=False)}
        return optuna.storages.RDBStorage("sqlite:///study.db", engine_kwargs=connect)

    def _pruner(self) -> optuna.pruners.BasePruner:
        early = self.plan.early_terminate
        if early is None:
            return optuna.pruners.NopPruner()
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=early.first_bracket, reduction_factor=early.eta)

    def _next(self) -> tuple[Trial, IO[bytes]] | None:
        """A trial to run, held by this process; first those whose process is gone."""
        with self._alone():
            for left in self.study.get_trials(states=(TrialState.RUNNING,)):
                if (lock := self._hold(left.number)) is not None:
                    return Trial(self.study, left._trial_id), lock
            begun = self._trials()
            waiting = any(trial.state == TrialState.WAITING for trial in begun)
            if not waiting and (self.plan.method == "grid" or len(begun) >= (self.plan.run_cap or 0)):
                return None
            # Seeded by the number, so that an interruption changes no later trial of a random search.
            number = len(self.study.trials)
            self.study.sampler = (
                optuna.samplers.TPESampler(seed=number)
                if self.plan.method == "bayes"
                else optuna.samplers.RandomSampler(number)
            )
            trial = self.study.ask()
            lock = self._hold(trial.number)
            assert lock is not None
            return trial, lock

    def _run(self, trial: Trial) -> None:
        values = {path: _suggest(trial, ".".join(path), parameter) for path, parameter in self.flat.items()}
        run_id = trial.user_attrs.get("id", f"{self.name}-{trial.number}")
        trial.set_user_attr("id", run_id)
        words = sweep_file.arguments(values)
        total = self.plan.run_cap or len(self._trials())
        shown = [
            f"{name}={value}" for name, value in sweep_file.dotted({".".join(path): values[path] for path in values}).items()
        ]
        say(f"sweep {self.name}: trial {trial.number + 1} of {total}: {' '.join(shown)}")
        environment = os.environ | {"WANDB_RUN_GROUP": os.environ.get("WANDB_RUN_GROUP", self.name)}
        environment[live_runs.FIXED] = str(self.threads)  # the same for all trials: it changes the last bits of their values
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
            self.study.tell(trial, state=TrialState.PRUNED)
        elif value is not None:
            self.study.tell(trial, value)
        else:
            self.study.tell(trial, state=TrialState.FAIL)

    def _follow(self, trial: Trial, run_id: str) -> bool:
        """Wait for the run; whether it was stopped because it is not among the best."""
        assert self._child is not None
        pruned, reported = False, len(self.study.trials[trial.number].intermediate_values)
        while self._child.poll() is None:
            time.sleep(POLL)
            folder = with_id(self.results, None, run_id) if self.plan.early_terminate and not pruned else None
            rows = folder.read_metrics() if folder else []
            values = [row[self.metric.name] for row in rows if row.get(self.metric.name) is not None]
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
        """What a run came to that ended with status 0, and the status that it should have ended with."""
        name = self.metric.name
        if folder is None or not folder.finished:
            say(f"sweep {self.name}: the run ended without a result, so it has failed; the next start tries it again")
            return None, FAILURE
        try:
            result = read_json(folder.result)
            values, seconds = summary(result), float(result["training_seconds"])
            rows = [row[name] for row in folder.read_metrics() if row.get(name) is not None]
            # What it was on the way does not stand for what it came to, where that is no number.
            measured = name in {f"{line['metric']}/{line['extractor']}" for line in result["metrics"]}
            value = values.get(name, rows[-1] if rows and not measured else None)
            value = None if value is None else float(value)
        except (OSError, ValueError, KeyError, TypeError):
            say(f"sweep {self.name}: {folder.result} is damaged; remove it, and the next start makes it again")
            return None, FAILURE
        trial.set_user_attr("fingerprint", values.get(f"{name}/fingerprint"))
        trial.set_user_attr("seconds", seconds)
        if value is None or not math.isfinite(value):
            say(f"sweep {self.name}: that run has no {name}; see `metric` in the sweep file")
            return None, BAD_INPUT
        return value, 0

    def _row(self, trial: FrozenTrial) -> Row:
        attributes, about = trial.user_attrs, {".".join(path): parameter for path, parameter in self.flat.items()}
        state = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped early", TrialState.RUNNING: "running"}
        failed = f"failed ({attributes.get('status')})"
        return Row(
            trial.number + 1, {name: _shown(value, about[name]) for name, value in trial.params.items()},
            state.get(trial.state, failed if trial.state == TrialState.FAIL else "waiting"),
            trial.value if trial.state != TrialState.PRUNED else list(trial.intermediate_values.values())[-1],
            attributes.get("fingerprint"), attributes.get("seconds"), attributes.get("run", ""),
        )  # fmt: skip

    def _command(self, words: list[str]) -> list[str]:
        """As an agent makes it; `ddpm-lab` is this lab."""
        told: dict[str, list[str]] = {
            "${env}": ["/usr/bin/env"], "${interpreter}": [sys.executable], "${program}": [str(self.plan.program)],
            ARGUMENTS: words, "ddpm-lab": [sys.executable, "-m", "ddpm_lab"],
        }  # fmt: skip
        return [word for piece in self.plan.command for word in told.get(piece, [piece])]

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time decides what is next."""
        with os.fdopen(open_lock(self.folder / ".lock"), "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _hold(self, number: int) -> IO[bytes] | None:
        """The lock of a trial, let go when this process ends in whatever way; nothing where another process has it."""
        lock = os.fdopen(open_lock(self.folder / f".trial-{number}.lock"), "rb")  # held while the trial runs
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        return lock

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM goes on to the run; Ctrl-C reaches the run by itself, being in the same group of processes."""

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


def _superseded(study: optuna.Study) -> list[int]:
    """Numbers of trials; with the study, because optuna lets nobody write on a trial that has ended."""
    numbers: list[int] = study.user_attrs.get("superseded", [])
    return numbers


def _suggest(trial: Trial, name: str, parameter: Parameter) -> Any:
    if parameter.choices is not None:
        return json.loads(trial.suggest_categorical(name, [json.dumps(choice) for choice in parameter.choices]))
    low, high = parameter.bounds
    if parameter.kind == "int_uniform":
        return trial.suggest_int(name, int(low), int(high))
    return _quantised(trial.suggest_float(name, low, high, log=parameter.logarithmic), parameter)


def _quantised(value: float, parameter: Parameter) -> float:
    if not parameter.kind.startswith("q_"):
        return value
    whole = round(value / parameter.q) * parameter.q
    return int(whole) if parameter.q.is_integer() else whole


def _shown(value: Any, parameter: Parameter) -> Any:
    """A parameter as the run was told, of what optuna keeps."""
    return json.loads(value) if parameter.choices is not None else _quantised(value, parameter)
