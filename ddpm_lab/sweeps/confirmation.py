"""The best trials of a finished sweep, run again with fresh seeds: the best of many values is so by luck too."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddpm_lab.config.overrides import of_seed
from ddpm_lab.config.yaml_reader import read_mapping
from ddpm_lab.reports.comparison import ranked
from ddpm_lab.reports.seed_groups import Named
from ddpm_lab.reports.seed_groups import Row as Group
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.signals import FAILURE
from ddpm_lab.storage.locks import take_lock
from ddpm_lab.storage.measurement import difference
from ddpm_lab.storage.names import id_of
from ddpm_lab.storage.results_folder import runs, with_id
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.sweeps.commands import Commands
from ddpm_lab.sweeps.results import Row, best_first, protocols
from ddpm_lab.sweeps.study import Study
from ddpm_lab.sweeps.ties import measured, noise_around, repeated_id
from ddpm_lab.sweeps.wandb_file import Metric, arguments
from registry.errors import BadInput

POLL = 1.0  # seconds between two looks at what other processes have done
SEEDS = 2  # for each trial


@dataclass(frozen=True)
class Again:
    """What is run again: so many of the best trials, each with so many fresh seeds."""

    best: int
    seeds: int = SEEDS


@dataclass(frozen=True)
class Fresh:
    """A trial with another seed."""

    trial: int  # as the table numbers it
    seed: int
    words: tuple[str, ...]
    id: str  # follows from trial and seed, so that a finished run is found again

    def __str__(self) -> str:
        return f"trial {self.trial} with seed {self.seed}"


class Confirmation:
    """Of one study; any number of processes may work on it, and resume it at any time."""

    def __init__(self, study: Study, commands: Commands, results: Path, again: Again) -> None:
        """Chooses the trials, and the seeds.

        Raises:
            BadInput: no trial is the best, or it is not known which seeds are fresh.
        """
        self.study, self.commands, self.results = study, commands, results
        self.name, self.metric = study.folder.name, study.metric.name
        self.trials = _best(study, again.best)
        first = 1 + max(self._seeds())
        self.seeds = range(first, first + again.seeds)
        kept = {trial.number + 1: trial for trial in study.trials()}
        self.fresh = [
            Fresh(
                row.number, seed, (*arguments(study.values(trial)), *of_seed(seed)), repeated_id(trial.user_attrs["id"], seed)
            )
            for row in self.trials
            for seed in self.seeds
            for trial in [kept[row.number]]
        ]
        self.failed: dict[str, int] = {}

    def execute(self) -> None:
        """Run what is left of them, then show what they came to.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the run is saved, and the next start resumes it.
            BadInput: they were not measured as the trials were.
            RuntimeError: none of them has a value.
        """
        while left := [one for one in self.fresh if one.id not in self.failed and self._run_of(one) is None]:
            if not any(map(self._take, left)):  # other processes have them
                time.sleep(POLL)
            self.commands.require_going_on()
        print("", *self._report(), sep="\n")

    def _take(self, fresh: Fresh) -> bool:
        """Run it, unless another process does; whether there is no need to wait."""
        lock = take_lock(self.study.folder / f".{fresh.id}.lock")
        if lock is None:
            return False
        try:
            if self._run_of(fresh) is None:  # nobody was quicker
                say(f"sweep {self.name}: {fresh}, run {self.fresh.index(fresh) + 1} of {len(self.fresh)}")
                status = self.commands.start(fresh.words, fresh.id).wait()
                if self._run_of(fresh) is None and not self.commands.stopped(status):
                    self.failed[fresh.id] = status or FAILURE
        finally:
            lock.release()
        return True

    def _run_of(self, fresh: Fresh) -> RunFolder | None:
        run = with_id(self.results, None, fresh.id)
        return run if run and run.finished else None

    def _seeds(self) -> list[int]:
        """Those of the sweep's own trials, whatever they came to: all had a part in the choice."""
        kept = {id_of(run.id): run for run in reversed(runs(self.results))}  # of two with one id the newer
        own = [kept[name] for trial in self.study.trials() if (name := trial.user_attrs.get("id")) in kept]
        seeds = [seed for run in own if isinstance(seed := read_mapping(run.experiment).get("seed"), int)]
        if not seeds:
            raise BadInput(
                f"--confirm: the runs of {self.study.folder} are gone from {self.results}, so it is not known which seeds are"
                " fresh; give the sweep's file another name to run it again"
            )
        return seeds

    def _report(self) -> list[str]:
        found = {str(run.path): one for one in self.fresh if (run := self._run_of(one))}
        entries = measured(found, self.metric)
        self._tell_missing({found[name].id for name, _ in entries})
        _require_alike([*entries, *measured([row.run for row in self.trials], self.metric)])
        # What the trials were chosen by is extreme because they were: it counts here no more than in the mean.
        noise = noise_around(entries, {Path(row.run).name for row in self.study.rows()})
        chosen = {row.number: row for row in self.trials}

        def trials(group: Group) -> list[Row]:
            return [chosen[number] for number in sorted({found[name].trial for name in group.names})]

        more = {
            "trial": lambda group: ", ".join(str(row.number) for row in trials(group)),
            "when chosen": lambda group: ", ".join(f"{row.value:.4g}" for row in trials(group)),
        }
        seeds = ", ".join(map(str, self.seeds))
        return [
            *ranked(self.metric, entries, noise).lines(more),
            f"with the fresh seeds {seeds} alone: the value by which a trial was chosen had luck too, so it is in no mean",
        ]

    def _tell_missing(self, having: set[str]) -> None:
        for one in self.fresh:
            if one.id in having:
                continue
            status = self.failed.get(one.id)
            why = f"has no {self.metric}" if status is None else f"failed ({status}) and is tried again next time"
            say(f"sweep {self.name}: {one} {why}; the mean without it may flatter the trial")
        if not having:
            raise RuntimeError(f"sweep {self.name}: none of the runs with fresh seeds has a value")


def require_measured(metric: Metric, where: str) -> None:
    """Nothing where results can have such a metric.

    Raises:
        BadInput: it is a value of training only.
    """
    if "/" not in metric.name:
        raise BadInput(f"{where}: {_unmeasured(metric.name)}")


def _unmeasured(name: str) -> str:
    return f"'{name}' is no metric of a result, and --confirm compares those; name one such as FID/fashion_cnn, or leave it out"


def _best(study: Study, count: int) -> list[Row]:
    rows = [row for row in best_first(study.rows(), study.metric) if row.finished]
    if not rows:
        raise BadInput(f"--confirm: no trial of {study.folder} is finished with a {study.metric.name}")
    kinds = protocols(rows)
    if None in kinds:
        raise BadInput(f"--confirm: {_unmeasured(study.metric.name)}")
    if len(kinds) > 1:
        raise BadInput(
            f"--confirm: the trials of {study.folder} have values of {len(kinds)} protocols, so none is the best; `ddpm-lab"
            " compare` says what differs"
        )
    if len(rows) < count:
        say(f"--confirm {count}: {len(rows)} trials are finished, so all of them are run again")
    return rows[:count]


def _require_alike(entries: Sequence[Named]) -> None:
    (name, first), *others = entries
    for other, record in others:
        if record.fingerprint != first.fingerprint:
            raise BadInput(
                f"{name} and {other} were not measured alike ({difference(first, record)}); give the sweep's file another name"
                " to run it again"
            )
