"""One execution of an experiment, from data to report."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ddpm_lab.config.load import Recipe
from ddpm_lab.evaluation.evaluate import evaluate_images, evaluators
from ddpm_lab.inference.trained_run import describe_generation
from ddpm_lab.reports.plane import POINTS, draw_plane
from ddpm_lab.reports.result_table import result_lines
from ddpm_lab.reports.run_report import write_report
from ddpm_lab.runner.callbacks import RunCallbacks
from ddpm_lab.runner.prepare import Prepared, prepare
from ddpm_lab.runner.provenance import code_hashes, replaced
from ddpm_lab.runner.resume import Place, require_same
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.device import pick_device
from ddpm_lab.runtime.environment import describe_environment
from ddpm_lab.runtime.host import peak_gigabytes
from ddpm_lab.runtime.launcher import is_main, restarted
from ddpm_lab.runtime.signals import FAILURE, Interrupted
from ddpm_lab.runtime.terminal import without_hangup
from ddpm_lab.storage.checkpoints import Checkpoint, Checkpoints
from ddpm_lab.storage.files import write_whole
from ddpm_lab.storage.images import PLANE, save_grid
from ddpm_lab.storage.json_text import write_json
from ddpm_lab.storage.measurement import Measurement, RunResult, failures, plain
from ddpm_lab.storage.names import require_id
from ddpm_lab.storage.results_folder import require_place, with_id
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.storage.starting_weights import cost_of
from ddpm_lab.tracking.tracker import Tracker
from ddpm_lab.training.trainer import Diverged
from registry.errors import BadInput, reason
from registry.metrics import METRICS

ROW, FRAMES = 8, 9  # images in the denoising picture, and moments of it


class Stopped(RuntimeError):
    """The run cannot continue, its last good checkpoint is intact; or it has ended, and its images are not finite."""


def train(
    recipe: Recipe, results: Path, device: str | None, *, resume: bool = False, run_id: str | None = None, option: str = "--id"
) -> RunFolder:
    """A run to its end, from its first image or from where it stopped: its folder. A finished one of that id stays as it is.

    `option` is what gave the id, for messages.

    Raises:
        BadInput, Interrupted, Stopped: as `begin` and `execute` do.
    """
    if run_id is not None:
        require_id(run_id, option)
    if run_id and (done := with_id(results, recipe.name, run_id)) and done.finished:
        require_same(done, recipe, option)
        say(f"{done.path} is finished already; nothing to do")
        return done
    chosen = pick_device(device)
    with without_hangup(), distributed.processes(chosen):
        execution = begin(recipe, results, chosen, resume or restarted(), run_id)
        execution.execute()
        return execution.folder


def begin(recipe: Recipe, results: Path, device: torch.device, resume: bool, run_id: str | None = None) -> Execution:
    """Prepare a run, and open its folder; `execute()` does the rest.

    `resume` is for the newest unfinished run of the experiment, `run_id` for the one of that id; where there is none, a new run
    begins. Everything is built before anything is created, so that bad input leaves no trace.

    Raises:
        BadInput: a part cannot be built, or the folder cannot be written.
    """
    require_place(results, recipe.name)
    place = Place(recipe, results, resume, run_id)
    from_main = distributed.from_main
    prepared = prepare(
        recipe.experiment, device, lambda: from_main(place.find), lambda: from_main(lambda: place.begins), results
    )  # fmt: skip
    data, train = prepared.data, recipe.experiment.train
    say(f"data: {data.name}, {len(data.train):,} + {len(data.test):,} images, from {data.source}")
    if prepared.start:
        say(f"start: {prepared.start.describe()}")
    ready, missing = evaluators(recipe.experiment.evaluate.features, data, device, recipe.experiment.evaluate.wanted)

    if strangers := replaced():
        say(f"warning: not the lab's own functions: {', '.join(strangers)}; environment.json records it")

    def opened() -> tuple[RunFolder, Checkpoint | None]:
        environment = describe_environment(device, prepared.precision, train.memory_format, train.compile)
        code = code_hashes(recipe.experiment, (plugin.file for plugin in recipe.plugins))
        return place.open(prepared.shape, replace(environment, code=code, replaced=tuple(strangers)), prepared.start)

    folder, checkpoint = distributed.from_main(opened)
    callbacks = RunCallbacks(prepared, folder, ready)
    if checkpoint is not None:
        _restore(callbacks, checkpoint)
    # The main process writes the folder, and what follows it to W&B.
    config = recipe.experiment.model_dump(mode="json")
    tracker = Tracker(recipe.experiment.track, folder, config) if is_main() else None
    for warning in prepared.warnings():
        say(f"warning: {warning}")
    if tracker:
        say(f"run: {folder.path} (W&B: {tracker.where})")
    return Execution(prepared, folder, callbacks, missing, tracker)


@dataclass
class Execution:
    """The third step of a run: training and what happens beside it, then the results.

    In several processes each has its share of every batch and of the images; the main one writes the folder.
    """

    prepared: Prepared
    folder: RunFolder
    callbacks: RunCallbacks
    missing: list[Measurement]  # a record of each extractor that cannot be had
    tracker: Tracker | None  # of the main process

    def __post_init__(self) -> None:
        self.experiment, self.trainer = self.prepared.experiment, self.prepared.trainer

    def execute(self) -> None:
        """Train, sample, evaluate, report.

        Raises:
            Interrupted: the run was asked to stop, and can be resumed.
            Stopped: the disk is full or gone, or the loss is NaN or infinite; one line says what is left.
        """
        status = FAILURE
        try:
            if self.trainer.images == 0:
                self.callbacks.sample(0)
            self.trainer.run(self.callbacks.listed())
            self.callbacks.checkpoint(self.trainer.images)
            if self.experiment.train.snapshots_every:
                self.callbacks.snapshot(self.trainer.images)
            self.finish()
            status = 0
        except Interrupted as interruption:
            status = interruption.status
            say(f"interrupted after {self.trainer.images:,} images; everything is saved, `--resume` continues from there")
            distributed.barrier()  # torchrun stops all as soon as one is gone
            raise
        except Diverged as error:
            raise Stopped(f"{error}; {self._keep(error)}") from error
        except OSError as error:
            raise Stopped(f"{self.folder.path}: {error.strerror or error}; {self._left()}; fix that, then --resume") from error
        except RuntimeError as error:
            if not distributed.lost(error):
                raise
            raise Stopped(f"another process of this run is gone; {self._left()}; start them again with --resume") from error
        finally:
            if self.tracker:
                self.tracker.finish(status)
            self.folder.release()

    def finish(self) -> None:
        """The last evaluation, the pictures, report.html and result.json, which comes last: it says that all is there."""
        self.callbacks.sample(self.trainer.images)
        results = self._results()
        if not is_main():
            return
        sampler, sampling = self.callbacks.sampler(), self.experiment.sampling
        if sampler.shape == PLANE:
            held_out = next(self.prepared.data.test.batches(POINTS))
            draw_plane(self.folder.path / "plane.png", sampler, held_out, sampling.seed)
        else:
            frames = sampler.trajectory(ROW, sampling.seed, sampler.labels(ROW), FRAMES)
            save_grid(self.folder.path / "denoising.png", frames.flatten(0, 1), columns=ROW)
        costs, before = self.callbacks.costs, cost_of(self.folder.recorded_start())
        result = RunResult(
            tuple(results), self.folder.id, self.trainer.images, self.experiment.budget, self.prepared.model.parameters,
            self.prepared.flops_per_image, peak_gigabytes(self.prepared.device), self.trainer.seconds,
            costs["sampling_seconds"], costs["evaluation_seconds"], self.trainer.skipped, *before,
        )  # fmt: skip
        write_report(self.folder, result)
        write_json(self.folder.result, plain(result))
        for line in result_lines(results):
            say(line)
        say(f"report: {self.folder.report}")
        if why := failures(results):
            raise Stopped(
                f"{self.folder.path}: {METRICS.main} could not be measured: {'; '.join(why)};"
                " its weights and its report are kept"
            )

    def _keep(self, error: Diverged) -> str:
        """Save what can be looked into afterwards, and say where it is."""
        if error.untouched:
            self.callbacks.checkpoint(self.trainer.images)
        file = self.folder.path / "nonfinite.pt"
        if is_main():
            write_whole(file, lambda path: torch.save(error.batch._asdict(), path))
        return f"{self._left()}, the batch is in {file}"

    def _left(self) -> str:
        images = Checkpoints(self.folder.checkpoints).newest()
        return "no checkpoint was written" if images is None else f"the last good checkpoint is of {images:,} images"

    def _results(self) -> list[Measurement]:
        start, n, sampling = time.monotonic(), self.experiment.evaluate.n, self.experiment.sampling
        generation = describe_generation(sampling, self.experiment.weights, sampling.seed, self.prepared.precision)
        sampler = self.callbacks.sampler()
        ready, batches, labels = self.callbacks.evaluators, self.callbacks.batches(n), sampler.labels(n)
        results = evaluate_images(ready, batches, n, generation, labels=labels, sampler=sampler)
        self.callbacks.costs["evaluation_seconds"] += time.monotonic() - start
        return [*results, *self.missing]


def _restore(callbacks: RunCallbacks, checkpoint: Checkpoint) -> None:
    """Put the trainer where the checkpoint was written, with what the run has cost until then."""
    try:
        callbacks.trainer.load_state(checkpoint.trainer)
        callbacks.costs |= checkpoint.costs
    except Exception as error:  # what a wrong type or size comes to light as
        text = f"the checkpoint does not fit this experiment ({reason(error)[:300]})"
        raise BadInput(f"--resume: {text}; start a new run without it") from None
