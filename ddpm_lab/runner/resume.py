"""The second step of a run: the folder that it writes, its own or that of the run that it resumes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ddpm_lab.config.layers import differences
from ddpm_lab.config.load import Recipe, dump, load_recipe
from ddpm_lab.diffusion.model import DataShape
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.environment import Environment
from ddpm_lab.runtime.host import pick_threads
from ddpm_lab.runtime.redaction import discreet
from ddpm_lab.runtime.seeding import STREAMS
from ddpm_lab.storage.checkpoints import Checkpoint, Checkpoints
from ddpm_lab.storage.files import write_text
from ddpm_lab.storage.json_text import write_json
from ddpm_lab.storage.results_folder import (
    clear_abandoned,
    create_run,
    newest_finished,
    newest_unfinished,
    point_latest,
    with_id,
)
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.storage.starting_weights import StartingWeights
from registry.errors import BadInput

NEW = {"--resume": "without --resume", "--id": "under another id"}
# What a run may change when it is resumed, because no weight and no metric depends on it.
FREE: Any = {"plugins": True, "track": True, "train": {"on_nonfinite", "checkpoint_every", "checkpoints_kept"}}


class Place:
    """Where a run writes. In several processes the main one has it."""

    def __init__(self, recipe: Recipe, results: Path, resume: bool, run_id: str | None) -> None:
        """`resume` is for the newest unfinished run of the experiment, `run_id` for the one of that id; where there is none,
        a new run begins."""
        self.recipe, self.results, self.resume, self.run_id = recipe, results, resume, run_id
        self._old: RunFolder | None = None

    def find(self) -> int:
        """Find the run to resume and hold it; how many threads this one has, which a resumed run keeps.

        Raises:
            BadInput: another process has it.
        """
        results, name = self.results, self.recipe.name
        clear_abandoned(results, name)
        if self.run_id is not None:
            self._old = with_id(results, name, self.run_id)
            if self._old is not None and not self._old.hold():
                raise BadInput(f"--id: {self._old.path} is running in another process")
        elif self.resume:
            self._old = newest_unfinished(results, name)
            if self._old is None:
                done = newest_finished(results, name)
                onward = f"; train.start={done.path} would start it from the weights of that finished one" if done else ""
                say(f"no unfinished run of {name} in {results}/; starting a new one{onward}")
        recorded = self._old.recorded_environment().threads if self._old else None
        return pick_threads(self.recipe.experiment.train.threads, recorded)

    @property
    def begins(self) -> bool:
        """Whether the run starts from its first image: it is new, or has no checkpoint yet."""
        return self._old is None or Checkpoints(self._old.checkpoints).newest() is None

    def open(
        self, shape: DataShape, environment: Environment, start: StartingWeights | None
    ) -> tuple[RunFolder, Checkpoint | None]:  # fmt: skip
        """Make the run's folder, or open that of the run that was found; with the checkpoint to resume from, if there is one.

        Raises:
            BadInput: the folder cannot be written, or the run cannot be resumed.
        """
        folder, checkpoint = (self._create(), None) if self._old is None else self._reopen(self._old)
        write_json(folder.data, dataclasses.asdict(shape))
        write_json(folder.environment, dataclasses.asdict(environment))
        if start is not None:
            write_json(folder.start, discreet(dataclasses.asdict(start)))
        return folder, checkpoint

    def _create(self) -> RunFolder:
        def record(folder: RunFolder) -> None:
            kept = {"plugins": folder.keep_plugins(self.recipe.plugins)}
            write_text(folder.experiment, dump(self.recipe.experiment.model_copy(update=kept)))

        return create_run(self.results, self.recipe.name, self.run_id, record)

    def _reopen(self, old: RunFolder) -> tuple[RunFolder, Checkpoint | None]:
        require_same(old, self.recipe, "--resume" if self.run_id is None else "--id")
        old.clear_partial()
        found = Checkpoints(old.checkpoints).load()  # without one it starts from its first image, with the streams of today
        if found and found.random_streams != STREAMS:
            raise BadInput(
                f"--resume: {old.path} was trained with version {found.random_streams} of the random streams, and this ddpm_lab"
                f" has version {STREAMS} (other noise, another order of the data); resume it with the ddpm_lab that its"
                " environment.json names, or start a new run: without --resume, or with another --id"
            )
        old.cut_metrics(found.rows if found else 0)
        point_latest(self.results, old.path)
        say(f"resuming {old.path} after {found.images if found else 0:,} images")
        return old, found


def require_same(folder: RunFolder, recipe: Recipe, option: str) -> None:
    """Nothing where a run is one of that experiment, as far as any weight or metric depends on it.

    Raises:
        BadInput: it is not; the first key that differs is named, and so is `option`, which asked for the run.
    """
    old, new = (
        discreet(experiment.model_dump(mode="json", exclude=FREE))
        for experiment in (load_recipe(str(folder.experiment)).experiment, recipe.experiment)
    )
    if found := next(differences(old, new), None):
        more = found.key == "train.images" and found.new > found.old
        onward = f"; for more images finish it, then train.start={folder.path}" if more else ""
        raise BadInput(
            f"{option}: {folder.path} cannot be resumed: {found.key} changed from {found.old!r} to {found.new!r}; run it as it"
            f" was, or start a new run {NEW[option]}{onward}"
        )
