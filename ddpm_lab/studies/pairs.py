"""The runs of a verdict, in pairs: which are done, what they came to, and how the next is made.

A run is one like any other, under an id that follows from its recipe and seed, so that a finished one is found again. Where
A and B differ in sampling alone, B is an evaluation of A's run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ddpm_lab.config.load import Recipe
from ddpm_lab.inference.trained_run import describe_generation
from ddpm_lab.runtime.device import pick_device, pick_precision
from ddpm_lab.storage.json_text import read_json, write_json
from ddpm_lab.storage.measurement import Measurement, RunResult, read_measurements, read_result
from ddpm_lab.storage.results_folder import wait_until_free, with_id
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.studies.commands import Lab
from ddpm_lab.studies.question import Question, Side
from ddpm_lab.studies.suite_file import digest


class Failed(RuntimeError):
    """A run ended without a value, so there is no verdict: to leave its pair out would favour one side."""


@dataclass(frozen=True)
class Sample:
    """A value of A or B, and what it was measured of."""

    run: str
    value: float
    record: Measurement
    metrics: Mapping[str, float]  # all, by name and extractor
    result: RunResult
    seconds: float  # that it took, training included


class Work:
    """What has to be done for one side of one pair."""

    def __init__(self, question: Question, side: Side, number: int, results: Path, device: str | None) -> None:
        self.question, self.side, self.number, self.results, self.device = question, side, number, results, device
        self.evaluates = question.shared and side is question.b  # a run of A's
        self.seed, self.status = side.first_seed + number, 0
        self._sample: Sample | None = None

    @cached_property
    def recipe(self) -> Recipe:
        return self.side.of_pair(self.number)

    @cached_property
    def id(self) -> str:
        return f"pair-{self.seed}-{digest(self.recipe)}"

    @property
    def notes(self) -> Path:
        """What this folder keeps of it: the seconds that it took."""
        return self.results / "verdicts" / f"{self.id}.json"

    @property
    def lock(self) -> Path:
        return self.notes.with_suffix(".lock")

    @property
    def run(self) -> RunFolder | None:
        """The finished run that its value is of."""
        source = self.source
        found = with_id(self.results, source.recipe.name, source.id)
        return found if found and found.finished else None

    @cached_property
    def source(self) -> Work:
        """What trains the run: itself, or A's work of that pair."""
        return Work(self.question, self.question.a, self.number, self.results, self.device) if self.evaluates else self

    @property
    def ready(self) -> bool:
        """Whether it can be begun."""
        return not self.evaluates or self.run is not None

    def do(self, lab: Lab) -> None:
        """Run it, or resume it.

        Raises:
            Interrupted: SIGINT or SIGTERM came.
        """
        begun = time.monotonic()
        wait_until_free(self.results, self.source.id)
        try:
            self.status = lab(*self._words())
        finally:
            write_json(self.notes, {"id": self.id, "seconds": self.seconds + time.monotonic() - begun})

    def sample(self) -> Sample | None:
        """Its value, None where it has none yet.

        Raises:
            Failed: it ended without one.
        """
        if self._sample:
            return self._sample
        run = self.run
        records = () if run is None else self._records(run)
        if run is None or not records:
            if self.status:
                raise Failed(f"{self} failed with exit status {self.status}")
            return None
        found = {f"{one.metric}/{one.extractor}": one for one in records if one.value is not None}
        record = found.get(self.question.metric)
        if record is None or not record.value or record.value <= 0:
            why = next((one.unavailable for one in records if one.unavailable), None)
            text = why if record is None else f"it is {record.value}, and only positive values have a ratio"
            raise Failed(f"{self}: {run.path} has no {self.question.metric} to compare ({text or 'it was not measured'})")
        values = {name: one.value for name, one in found.items() if one.value is not None}
        self._sample = Sample(os.fspath(run.path), record.value, record, values, read_result(run.result), self.seconds)
        return self._sample

    def __str__(self) -> str:
        return f"{self.side.letter}, seed {self.seed}"

    @property
    def seconds(self) -> float:
        """What it took until now, in all processes that worked on it; 0 where nobody noted it."""
        try:
            return float(read_json(self.notes)["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0

    def _words(self) -> tuple[str, ...]:
        if not self.evaluates:
            return (*self.side.command(self.number), "--id", self.id, "--results", os.fspath(self.results))
        assert self.run is not None
        mine, theirs = (work.recipe.experiment.sampling.model_dump(mode="json") for work in (self, self.source))
        changed = [f"sampling.{key}={json.dumps(mine[key])}" for key in mine if mine[key] != theirs[key]]
        return ("evaluate", os.fspath(self.run.path), *changed, "-n", str(self.recipe.experiment.evaluate.n))

    def _records(self, run: RunFolder) -> tuple[Measurement, ...]:
        if not self.evaluates:
            return read_measurements(run.result)
        experiment = self.recipe.experiment
        precision = pick_precision(experiment.train.precision, pick_device(self.device))
        made = describe_generation(experiment.sampling, experiment.weights, experiment.sampling.seed, precision)
        for file in sorted(run.path.glob(f"evaluation-n{experiment.evaluate.n}-*.json")):
            records = read_measurements(file)
            if any(f"{one.metric}/{one.extractor}" == self.question.metric and one.generation == made for one in records):
                return records
        return ()
