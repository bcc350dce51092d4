"""What optuna keeps of a sweep, in `results/sweeps/<name>/study.db`: which trials there are, and which one is next."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import OperationalError

from ddpm_lab.runtime.host import pick_threads
from ddpm_lab.runtime.signals import BAD_INPUT
from ddpm_lab.storage.locks import locked, take_lock
from ddpm_lab.sweeps.results import Row
from ddpm_lab.sweeps.wandb_file import Metric, Parameter, SweepFile, Values
from registry.errors import BadInput, reason
from registry.files import require_regular


class Study:
    """The trials of a sweep; any number of processes may work on them, and resume them at any time."""

    def __init__(self, folder: Path, plan: SweepFile, metric: Metric, identity: str, conflict: str) -> None:
        """Begin the study in that folder, or open it.

        Raises:
            BadInput: the study was started with another `identity`, which `conflict` says, or it is damaged.
        """
        self.folder, self.plan, self.metric = folder, plan, metric
        self.parameters = {".".join(path): parameter for path, parameter in plan.flat.items()}
        with self._alone():
            self.optuna = self._opened()
            self._begin(identity, conflict)
            self._try_again()
            self.threads = pick_threads("auto", self.optuna.user_attrs.get("threads"))
            if "threads" not in self.optuna.user_attrs:
                self.optuna.set_user_attr("threads", self.threads)

    def next(self) -> tuple[Trial, FileLock] | None:
        """A trial to run, and its lock, which this process holds; first those whose process is gone. None at the end."""
        with self._alone():
            for left in self.optuna.get_trials(states=(TrialState.RUNNING,)):
                if (lock := self._hold(left.number)) is not None:
                    return self._running(left.number), lock
            begun = self.trials()
            waiting = any(trial.state == TrialState.WAITING for trial in begun)
            if not waiting and (self.plan.method == "grid" or len(begun) >= (self.plan.run_cap or 0)):
                return None
            # Seeded by the number, so that an interruption changes no later trial of a random search.
            number = len(self.optuna.trials)
            bayes = self.plan.method == "bayes"
            self.optuna.sampler = (optuna.samplers.TPESampler if bayes else optuna.samplers.RandomSampler)(seed=number)
            trial = self.optuna.ask()
            lock = self._hold(trial.number)
            assert lock is not None
            return trial, lock

    def trials(self) -> list[FrozenTrial]:
        """Without those that failed and have another in their place."""
        gone = self._superseded()
        return [trial for trial in self.optuna.trials if trial.number not in gone]

    def values(self, trial: Trial) -> Values:
        """The parameters of the trial: chosen now, or when the trial was started."""
        return {path: _suggest(trial, ".".join(path), parameter) for path, parameter in self.plan.flat.items()}

    def rows(self) -> list[Row]:
        """Of the table of results."""
        return [self._row(trial) for trial in self.trials()]

    def _opened(self) -> optuna.Study:
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
                    file.unlink()  # created, and killed before it held anything; or a link to a device
            # In an address, a folder's name with ? or % in it would be taken for something else.
            connect = {"creator": lambda: sqlite3.connect(file, check_same_thread=False)}
            self._storage = optuna.storages.RDBStorage("sqlite:///study.db", engine_kwargs=connect)
            study = optuna.create_study(
                storage=self._storage, study_name=self.folder.name, load_if_exists=True, direction=self.metric.goal,
                pruner=self._pruner(),
            )  # fmt: skip
            _ = study.user_attrs, [(trial.user_attrs, trial.params) for trial in study.trials]
        except OperationalError as error:
            raise RuntimeError(f"{file}: cannot be opened ({reason(error)[:200]})") from None
        except Exception as error:  # a damaged database can raise almost anything
            remedy = "give the sweep's file another name to start again; its finished trials remain as runs"
            raise BadInput(f"{file}: damaged ({reason(error)[:200]}); {remedy}") from None
        return study

    def _pruner(self) -> optuna.pruners.BasePruner:
        early = self.plan.early_terminate
        if early is None:
            return optuna.pruners.NopPruner()
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=early.first_bracket, reduction_factor=early.eta)

    def _begin(self, identity: str, conflict: str) -> None:
        known = self.optuna.user_attrs.get("identity")
        if known is None:
            for values in self.plan.grid() if self.plan.method == "grid" else ():
                self.optuna.enqueue_trial({".".join(path): json.dumps(value) for path, value in values.items()})
            self.optuna.set_user_attr("identity", identity)
        elif known != identity:
            raise BadInput(conflict)

    def _try_again(self) -> None:
        """Bad input stays bad; what was killed, or had no disk, is resumed."""
        for trial in self.optuna.get_trials(states=(TrialState.FAIL,)):
            if trial.user_attrs.get("status") != BAD_INPUT and trial.number not in (gone := self._superseded()):
                self.optuna.enqueue_trial(trial.params, user_attrs={"id": trial.user_attrs["id"]})
                self.optuna.set_user_attr("superseded", [*gone, trial.number])

    def _superseded(self) -> list[int]:
        """Numbers of trials; with the study, because optuna lets nobody write on a trial that has ended."""
        numbers: list[int] = self.optuna.user_attrs.get("superseded", [])
        return numbers

    def _running(self, number: int) -> Trial:
        """A trial that another process started."""
        study = self._storage.get_study_id_from_name(self.optuna.study_name)
        return Trial(self.optuna, self._storage.get_trial_id_from_study_id_trial_number(study, number))

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """One process at a time decides what is next."""
        return locked(self.folder / ".lock")

    def _hold(self, number: int) -> FileLock | None:
        """The lock of a trial, held while it runs; None where another process has it."""
        return take_lock(self.folder / f".trial-{number}.lock")

    def _row(self, trial: FrozenTrial) -> Row:
        attributes = trial.user_attrs
        state = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped early", TrialState.RUNNING: "running"}
        failed = f"failed ({attributes.get('status')})"
        return Row(
            trial.number + 1, {name: _shown(value, self.parameters[name]) for name, value in trial.params.items()},
            state.get(trial.state, failed if trial.state == TrialState.FAIL else "waiting"),
            trial.value if trial.state != TrialState.PRUNED else list(trial.intermediate_values.values())[-1],
            attributes.get("fingerprint"), attributes.get("seconds"), attributes.get("run", ""),
        )  # fmt: skip


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
