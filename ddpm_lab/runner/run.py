"""One execution of an experiment, from data to report."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpm_lab.config.layers import first_difference
from ddpm_lab.config.load import Recipe, dump, load_recipe
from ddpm_lab.config.schema import Experiment
from ddpm_lab.diffusion.build import build_data, build_model, build_objective, build_procedure
from ddpm_lab.diffusion.compatibility import require_fit, warnings
from ddpm_lab.diffusion.cost import flops_if_countable, parameter_count
from ddpm_lab.diffusion.model import DataShape
from ddpm_lab.diffusion.sampling import Drawing
from ddpm_lab.evaluation.evaluator import evaluate_images, evaluators, measure
from ddpm_lab.evaluation.held_out_loss import held_out_record
from ddpm_lab.evaluation.measurement import failures, settled
from ddpm_lab.evaluation.result_table import result_lines
from ddpm_lab.inference.trained_run import describe_generation, guides
from ddpm_lab.reports.run_report import write_report
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.device import pick_precision
from ddpm_lab.runtime.environment import describe_environment
from ddpm_lab.runtime.host import peak_gigabytes, pick_threads, settle
from ddpm_lab.runtime.redaction import discreet
from ddpm_lab.runtime.seeding import STREAMS
from ddpm_lab.runtime.signals import FAILURE, Interrupted, NotFinite
from ddpm_lab.storage.checkpoints import Checkpoints, State
from ddpm_lab.storage.files import write_text, write_whole
from ddpm_lab.storage.images import save_grid
from ddpm_lab.storage.json_text import write_json
from ddpm_lab.storage.results_folder import clear_abandoned, create_run, newest_unfinished, point_latest, require_place, with_id
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.storage.weights import save_weights
from ddpm_lab.tracking.tracker import Tracker
from ddpm_lab.training.trainer import Diverged, Hooks, Trainer
from ddpm_lab.training.trial import try_parts
from registry.averages import AVERAGES
from registry.errors import BadInput, reason

PREVIEW = 36  # images in the periodic samples
ROW, FRAMES = 8, 9  # garments in the denoising picture, and moments of it


class Stopped(RuntimeError):
    """The run cannot go on, its last good checkpoint being where it was; or it has ended, and its images are not finite."""


class Execution:
    """The objects of one run, and what happens at each moment of it.

    In several processes each has its share of every batch and of the images; the main one writes the folder.
    """

    def __init__(self, recipe: Recipe, results: Path, device: torch.device, resume: bool, run_id: str | None = None) -> None:
        """Builds everything before it creates anything, so that bad input leaves no trace.

        `resume` goes on with the newest unfinished run of the experiment, `run_id` with the one of that id; where there is
        none, a new run begins.

        Raises:
            BadInput: a part cannot be built, or the folder cannot be written.
        """
        experiment = recipe.experiment
        require_place(results, recipe.name)
        _require_divisible(experiment)
        if experiment.weights not in (known := ["raw", *experiment.train.averages]):
            raise BadInput(f"sampling.weights: this run will have no '{experiment.weights}', but {', '.join(known)}")
        precision = pick_precision(experiment.train.precision, device)
        settle(device, distributed.from_main(lambda: self._threads(recipe, results, resume, run_id)))
        with distributed.first_on_each_machine():
            data = build_data(experiment)
        say(f"data: {data.name}, {len(data.train):,} + {len(data.test):,} images, from {data.source}")
        self.shape = DataShape.of(data)
        self.model = build_model(experiment, self.shape, device)
        self.procedure = build_procedure(experiment.sampling, self.model, guides(self.model, self.shape, None))
        objective = build_objective(experiment, self.shape, self.model)
        require_fit(experiment, self.model, objective)
        try_parts(experiment, data, self.model, objective, self.procedure, precision)
        self.trainer = Trainer(experiment, self.model, objective, data.train, precision)
        self.evaluators, self.missing = evaluators(experiment.evaluate.features, data, device, experiment.evaluate.wanted)
        self.experiment, self.data, self.device, self.precision = experiment, data, device, precision
        self.costs = {"sampling_seconds": 0.0, "evaluation_seconds": 0.0}
        path, state = distributed.from_main(lambda: self._open(recipe, results, run_id))
        if not distributed.is_main():
            self.folder = RunFolder(path)
        if state is not None:
            self._load_state(state)
        # The main process writes the folder, and what follows it to W&B.
        self.tracker = (
            Tracker(experiment.track, self.folder, experiment.model_dump(mode="json")) if distributed.is_main() else None
        )
        for warning in warnings(experiment, self.model, objective, self.shape.std):
            say(f"warning: {warning}")
        if self.tracker:
            say(f"run: {self.folder.path} (W&B: {self.tracker.where})")

    def execute(self) -> None:
        """Train, sample, evaluate, report.

        Raises:
            Interrupted: the run was asked to stop, and can be resumed.
            Stopped: the disk is full or gone, or the loss is no number; one line says what is left.
        """
        status = FAILURE
        try:
            if self.trainer.images == 0:
                self.sample(0)
            self.trainer.run(Hooks(self.log, self.sample, self.evaluate, self.snapshot, self.checkpoint))
            self.checkpoint(self.trainer.images)
            if self.experiment.train.snapshots_every:
                self.snapshot(self.trainer.images)
            self.finish()
            status = 0
        except Interrupted as interruption:
            status = interruption.status
            say(f"interrupted after {self.trainer.images:,} images; everything is saved, `--resume` goes on from there")
            distributed.barrier()  # torchrun stops all as soon as one is gone
            raise
        except Diverged as error:
            raise Stopped(f"{error}; {self._keep(error)}") from error
        except OSError as error:
            raise Stopped(f"{self.folder.path}: {error.strerror or error}; {self._left()}; mend that, then --resume") from error
        except RuntimeError as error:
            if not distributed.lost(error):
                raise
            raise Stopped(f"another process of this run is gone; {self._left()}; start them again with --resume") from error
        finally:
            if self.tracker:
                self.tracker.finish(status)
            self.folder.release()

    def log(self, row: dict[str, Any]) -> None:
        """One row of metrics; whoever tracks the run follows the file."""
        if distributed.is_main():
            self.folder.append_metrics(row)

    def checkpoint(self, images: int) -> None:
        """What a resumed run needs, and the weights as they are now."""
        state = self.trainer.state()
        if distributed.is_main():
            self.save_weights()
            state |= {"rows": len(self.folder.read_metrics()), "costs": self.costs, "random_streams": STREAMS}
            Checkpoints(self.folder.checkpoints).save(images, state, self.experiment.train.checkpoints_kept)
        distributed.barrier()

    def snapshot(self, images: int) -> None:
        """The weights that images are drawn from, kept as they are now, and power-function averages beside them."""
        if distributed.is_main():
            self.folder.snapshots.mkdir(exist_ok=True)
            train, drawn = self.experiment.train, self.experiment.weights
            widths = {}  # of those whose profiles can be combined into others
            for name, choice in train.averages.items():
                if (power_std := AVERAGES.part(choice.name).traits.power_std) is not None:
                    widths[name] = {"std": power_std(choice.options)}
            for name in {drawn, *widths}:
                about = {"images": images, "batch": train.batch, **widths.get(name, {})}
                save_weights(
                    self.folder.snapshot(images, "" if name == drawn else name), self.trainer.sampling_network(name), about
                )

    def save_weights(self) -> None:
        """raw.safetensors, and a file for each average."""
        about = {"images": self.trainer.images, "backbone": self.experiment.backbone.name}
        save_weights(self.folder.weights("raw"), self.trainer.network, about)
        for name, average in self.trainer.averages.items():
            save_weights(self.folder.weights(name), average.network, about)

    def drawing(self) -> Drawing:
        """The network as it is now, with the experiment's procedure."""
        network = self.trainer.sampling_network(self.experiment.weights)
        return Drawing(self.model, network, self.procedure, self.shape.image_shape, self.precision)

    def sample(self, images: int) -> None:
        """A grid of samples from the same noise as all the others of this run."""
        start = time.monotonic()
        try:
            grid = distributed.collected([batch for _, batch in self._batches(PREVIEW)])
        except NotFinite as error:
            say(f"after {images:,} images: no grid of samples: {error}")
            return
        finally:
            self.costs["sampling_seconds"] += time.monotonic() - start
        if distributed.is_main():
            file = self.folder.samples / f"{images:09d}.png"
            save_grid(file, torch.cat(grid))
            caption = f"{images:,} images seen, {self.experiment.weights} weights"
            self.log({"images": images, "samples": {"file": f"samples/{file.name}", "caption": caption}})

    def evaluate(self, images: int) -> None:
        """FID on the way, at small N."""
        if not self.evaluators:
            return
        start, n = time.monotonic(), self.experiment.evaluate.n_during
        try:
            measured = measure(self.evaluators, self._batches(n), n, "evaluating", passing=True, shared=True)
        except NotFinite as error:
            say(f"after {images:,} images: no FID: {error}")
            return
        if not distributed.is_main():
            return
        row: dict[str, Any] = {"images": images, "n": n}
        for evaluator, statistics in zip(self.evaluators, measured, strict=True):
            try:
                values = evaluator.values(statistics)
            except NotFinite as error:
                say(f"after {images:,} images: no FID in {evaluator.name}: {error}")
                continue
            row |= {f"{metric}/{evaluator.name}": value for metric, value in values.items()}
            by = ", ".join(filter(None, (evaluator.name, evaluator.caveat)))
            how = f"{by}, N = {n:,}, {self.experiment.weights} weights"
            say(f"after {images:,} images: FID {values['FID']:.3f} ({how})")
        self.costs["evaluation_seconds"] += time.monotonic() - start
        self.log(row)

    def finish(self) -> None:
        """The last evaluation, the pictures, report.html and result.json, which comes last: it says that all is there."""
        self.sample(self.trainer.images)
        results = self._results()
        if not distributed.is_main():
            return
        drawing, sampling = self.drawing(), self.experiment.sampling
        frames = drawing.trajectory(ROW, sampling.seed, drawing.labels(ROW), FRAMES)
        save_grid(self.folder.path / "denoising.png", frames.flatten(0, 1), columns=ROW)
        result = {
            "run": self.folder.id, "images": self.trainer.images, "budget": self.experiment.budget,
            "parameters": parameter_count(self.model), "flops_per_image": flops_if_countable(self.model, self.shape),
            "peak_gigabytes": peak_gigabytes(self.device), "training_seconds": self.trainer.seconds, **self.costs,
            "skipped_steps": self.trainer.skipped, "metrics": results,
        }  # fmt: skip
        write_report(self.folder, result)
        write_json(self.folder.result, result)
        for line in result_lines(results):
            say(line)
        say(f"report: {self.folder.report}")
        if why := failures(results):
            raise Stopped(
                f"{self.folder.path}: FID could not be measured: {'; '.join(why)}; its weights and its report are kept"
            )

    def _threads(self, recipe: Recipe, results: Path, resume: bool, run_id: str | None) -> int:
        """Find the run to go on with, which knows how many threads it has; the data's statistics depend on them already."""
        self._old = self._find(recipe, results, resume, run_id)
        return pick_threads(recipe.experiment.train.threads, self._old.recorded_threads() if self._old else None)

    def _find(self, recipe: Recipe, results: Path, resume: bool, run_id: str | None) -> RunFolder | None:
        """The run to go on with, held by this process; None where a new one begins."""
        clear_abandoned(results, recipe.name)
        if run_id is not None:
            old = with_id(results, recipe.name, run_id)
            if old is not None and not old.hold():
                raise BadInput(f"--id: {old.path} is running in another process")
        else:
            old = newest_unfinished(results, recipe.name) if resume else None
        if resume and old is None and run_id is None:
            say(f"no unfinished run of {recipe.name} in {results}/; starting a new one")
        return old

    def _open(self, recipe: Recipe, results: Path, run_id: str | None) -> tuple[Path, State | None]:
        """Make the run's folder, or open that of the one to go on with: where it is, and the state to go on from, if any."""
        old, state = self._old, None
        if old is not None:
            require_same(old, recipe, "--resume" if run_id is None else "--id")
            self.folder = old
            old.clear_partial()
            state = Checkpoints(old.checkpoints).load()
            counts = ("images", "rows", "random_streams")
            state = state and {"random_streams": 1, **state}  # version 1 did not record itself
            if state and not all(type(state.get(key)) is int and state[key] >= 0 for key in counts):
                raise BadInput(f"{old.checkpoints}: not the checkpoint of a run; it says nothing of images and rows")
            _require_same_streams(old, state)
            old.cut_metrics(state["rows"] if state else 0)
            point_latest(results, old.path)
            say(f"resuming {old.path} after {state['images'] if state else 0:,} images")
        else:

            def record(folder: RunFolder) -> None:
                kept = self.experiment.model_copy(update={"plugins": folder.keep_plugins(recipe.plugins)})
                write_text(folder.experiment, dump(kept))

            self.folder = create_run(results, recipe.name, run_id, record)
        write_json(self.folder.data, dataclasses.asdict(self.shape))
        train = self.experiment.train
        environment = describe_environment(self.device, self.precision, train.memory_format, train.compile)
        write_json(self.folder.environment, environment)
        return self.folder.path, state

    def _load_state(self, state: State) -> None:
        try:
            self.trainer.load_state(state)
            self.costs |= state["costs"]
        except Exception as error:  # what a wrong type or size comes to light as
            text = f"the checkpoint does not fit this experiment ({reason(error)[:300]})"
            raise BadInput(f"--resume: {text}; start anew without it") from None

    def _keep(self, error: Diverged) -> str:
        """Save what can be looked into afterwards, and say where it is."""
        if error.untouched:
            self.checkpoint(self.trainer.images)
        file = self.folder.path / "nonfinite.pt"
        if distributed.is_main():
            write_whole(file, lambda path: torch.save(error.batch._asdict(), path))
        return f"{self._left()}, the batch is in {file}"

    def _left(self) -> str:
        images = Checkpoints(self.folder.checkpoints).newest()
        return "no checkpoint was written" if images is None else f"the last good checkpoint is of {images:,} images"

    def _batches(self, n: int) -> Iterator[tuple[int, Tensor]]:
        sampling, drawing = self.experiment.sampling, self.drawing()
        return drawing.images(n, sampling.seed, sampling.batch, drawing.labels(n))

    def _results(self) -> list[dict[str, Any]]:
        start, n, sampling = time.monotonic(), self.experiment.evaluate.n, self.experiment.sampling
        generation = describe_generation(sampling, self.experiment.weights, sampling.seed, self.precision)
        drawing = self.drawing()
        results = evaluate_images(self.evaluators, self._batches(n), n, generation, labels=drawing.labels(n))
        wanted = "held_out_loss" in self.experiment.evaluate.wanted
        if self.evaluators and wanted and distributed.is_main():
            results.append(settled(held_out_record(self.model, drawing.network, self.data, n, self.precision, generation)))
        self.costs["evaluation_seconds"] += time.monotonic() - start
        return [*results, *self.missing]


def _require_divisible(experiment: Experiment) -> None:
    batch, parts = experiment.train.batch, experiment.train.accumulate
    if distributed.joined() and batch % (distributed.size() * parts):
        shares = f"{distributed.size()} processes" + (f" times train.accumulate = {parts}" if parts > 1 else "")
        raise BadInput(f"train.batch: {batch} images do not divide over {shares}")


ANEW = {"--resume": "without --resume", "--id": "under another id"}
# What a run may change when it goes on, because no weight and no metric depends on it.
FREE: Any = {"plugins": True, "track": True, "train": {"on_nonfinite", "checkpoint_every", "checkpoints_kept"}}


def require_same(folder: RunFolder, recipe: Recipe, option: str) -> None:
    """Nothing where a run is one of that experiment, as far as any weight or metric depends on it.

    Raises:
        BadInput: it is not; the first key that differs is named, and so is `option`, which asked for the run.
    """
    old, new = (
        discreet(experiment.model_dump(mode="json", exclude=FREE))
        for experiment in (load_recipe(str(folder.experiment)).experiment, recipe.experiment)
    )
    if difference := first_difference(old, new):
        raise BadInput(
            f"{option}: {folder.path} was begun with another {difference}; run it as it was, or start anew {ANEW[option]}"
        )


def _require_same_streams(folder: RunFolder, state: State | None) -> None:
    """A run without a checkpoint starts from its first image again, with the streams of today."""
    if state and (version := state["random_streams"]) != STREAMS:
        raise BadInput(
            f"--resume: {folder.path} was trained with version {version} of the random streams, and this ddpm_lab has version"
            f" {STREAMS} (other noise, another order of the data); resume it with the ddpm_lab that its environment.json names,"
            " or start a new run: without --resume, or with another --id"
        )
