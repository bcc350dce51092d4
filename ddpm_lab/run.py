"""One execution of an experiment, from data to report."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpm_lab.build import DataShape, build_data, build_model, build_objective, build_procedure
from ddpm_lab.checkpoint import load_checkpoint, save_checkpoint, save_weights
from ddpm_lab.device import pick_device, pick_precision
from ddpm_lab.environment import describe_environment
from ddpm_lab.evaluate import describe_result, evaluate_images, evaluators, measure
from ddpm_lab.files import discreet, write_text
from ddpm_lab.loaded import describe_generation
from ddpm_lab.pictures import save_grid
from ddpm_lab.progress import say
from ddpm_lab.recipe import Recipe, dump, load_recipe
from ddpm_lab.report import write_report
from ddpm_lab.run_folder import RunFolder, newest_unfinished
from ddpm_lab.sample import Drawing
from ddpm_lab.tracking import Tracker
from ddpm_lab.train import Hooks, Interrupted, Trainer
from registry.errors import BadInput

PREVIEW = 36  # images in the periodic samples
ROW, FRAMES = 8, 9  # garments in the denoising picture, and moments of it


class Execution:
    """The objects of one run, and what happens at each moment of it."""

    def __init__(self, recipe: Recipe, results: Path, device: str | None, resume: bool) -> None:
        """Builds everything before it creates anything, so that bad input leaves no trace.

        Raises:
            BadInput: a part cannot be built, or the folder cannot be written.
        """
        experiment = recipe.experiment
        torch_device = pick_device(device)
        precision = pick_precision(experiment.train.precision, torch_device)
        old = newest_unfinished(results, recipe.name) if resume else None
        if resume and old is None:
            say(f"no unfinished run of {recipe.name} with a checkpoint in {results}/; starting a new one")
        data = build_data(experiment)
        say(f"data: {data.name}, {len(data.train):,} + {len(data.test):,} images, from {data.source}")
        self.shape = DataShape.of(data)
        self.model = build_model(experiment, self.shape, torch_device)
        self.procedure = build_procedure(experiment.sampling, self.model)
        self.trainer = Trainer(experiment, self.model, build_objective(experiment), data.train, precision)
        self.experiment, self.data, self.device, self.precision = experiment, data, torch_device, precision
        if old is not None:
            _require_same(old, recipe)
            self.folder = old
            self.trainer.load_state(load_checkpoint(old.checkpoint))
            old.cut_metrics(self.trainer.images)
            say(f"resuming {old.path} after {self.trainer.images:,} images")
        else:
            self.folder = RunFolder.create(results, recipe.name)
            kept = experiment.model_copy(update={"plugins": self.folder.keep_plugins(recipe.plugins)})
            write_text(self.folder.experiment, discreet(dump(kept)))
            write_text(self.folder.data, json.dumps(dataclasses.asdict(self.shape), indent=2) + "\n")
        environment = describe_environment(torch_device, precision)
        write_text(self.folder.environment, json.dumps(environment, indent=2) + "\n")
        self.tracker = Tracker(experiment.track, self.folder, experiment.model_dump(mode="json"))
        say(f"run: {self.folder.path} (W&B: {self.tracker.where})")
        self.evaluators, self.missing = evaluators(experiment.evaluate.features, data, torch_device)
        self.costs = {"sampling_seconds": 0.0, "evaluation_seconds": 0.0}

    def execute(self) -> RunFolder:
        """Train, sample, evaluate, report.

        Raises:
            Interrupted: the run was asked to stop, and can be resumed.
        """
        failed = True
        try:
            if self.trainer.images == 0:
                self.sample(0)
            self.trainer.run(Hooks(self.log, self.sample, self.evaluate, self.checkpoint))
            self.checkpoint(self.trainer.images)
            self.finish()
            failed = False
        except Interrupted:
            say(f"interrupted after {self.trainer.images:,} images; everything is saved, `--resume` goes on from there")
            raise
        finally:
            self.tracker.finish(failed)
        return self.folder

    def log(self, row: dict[str, Any]) -> None:
        """One row of metrics; whoever tracks the run follows the file."""
        self.folder.append_metrics(row)

    def checkpoint(self, images: int) -> None:
        """What a resumed run needs, and the weights as they are now."""
        self.save_weights()
        save_checkpoint(self.folder.checkpoint, self.trainer.state())

    def save_weights(self) -> None:
        """raw.safetensors, and ema.safetensors where the run has an EMA."""
        about = {"images": str(self.trainer.images), "backbone": self.experiment.backbone.name}
        save_weights(self.folder.weights("raw"), self.trainer.network, about)
        if self.trainer.ema is not None:
            save_weights(self.folder.weights("ema"), self.trainer.ema.network, about)

    def drawing(self) -> Drawing:
        """The network as it is now, with the experiment's procedure."""
        network = self.trainer.sampling_network(self.experiment.weights)
        return Drawing(self.model, network, self.procedure, self.shape.image_shape, self.precision)

    def sample(self, images: int) -> None:
        """A grid of samples from the same noise as all the others of this run."""
        start = time.monotonic()
        drawing = self.drawing()
        labels = drawing.labels(PREVIEW)
        grid = torch.cat(list(drawing.images(PREVIEW, self.experiment.sampling.seed, self.experiment.sampling.batch, labels)))
        file = self.folder.samples / f"{images:09d}.png"
        save_grid(file, grid)
        self.costs["sampling_seconds"] += time.monotonic() - start
        caption = f"{images:,} images seen, {self.experiment.weights} weights"
        self.log({"images": images, "samples": {"file": f"samples/{file.name}", "caption": caption}})

    def evaluate(self, images: int) -> None:
        """FID on the way, at small N."""
        start, n = time.monotonic(), self.experiment.evaluate.n_during
        row: dict[str, Any] = {"images": images, "n": n}
        for evaluator, features in zip(self.evaluators, self._features(n), strict=True):
            values = evaluator.values(features)
            row |= {f"{metric}/{evaluator.name}": value for metric, value in values.items()}
            how = f"{evaluator.name}, N = {n:,}, {self.experiment.weights} weights"
            say(f"after {images:,} images: FID {values['FID']:.3f} ({how})")
        self.costs["evaluation_seconds"] += time.monotonic() - start
        if self.evaluators:
            self.log(row)

    def finish(self) -> None:
        """The last evaluation, the pictures, result.json and report.html."""
        self.sample(self.trainer.images)
        drawing, sampling = self.drawing(), self.experiment.sampling
        frames = drawing.trajectory(ROW, sampling.seed, drawing.labels(ROW), FRAMES)
        save_grid(self.folder.path / "denoising.png", frames.flatten(0, 1), columns=ROW)
        results = self._results()
        result = {
            "run": self.folder.id, "images": self.trainer.images, "budget": self.experiment.budget,
            "parameters": sum(parameter.numel() for parameter in self.trainer.network.parameters()),
            "training_seconds": self.trainer.seconds, **self.costs, "metrics": results,
        }  # fmt: skip
        write_text(self.folder.result, json.dumps(result, indent=2) + "\n")
        write_report(self.folder)
        for line in results:
            say(describe_result(line))
        say(f"report: {self.folder.report}")

    def _batches(self, n: int) -> Iterator[Tensor]:
        sampling, drawing = self.experiment.sampling, self.drawing()
        return drawing.images(n, sampling.seed, sampling.batch, drawing.labels(n))

    def _features(self, n: int) -> list[Tensor]:
        return measure(self.evaluators, self._batches(n), n, "evaluating", passing=True) if self.evaluators else []

    def _results(self) -> list[dict[str, Any]]:
        start, n, sampling = time.monotonic(), self.experiment.evaluate.n, self.experiment.sampling
        generation = describe_generation(sampling, self.experiment.weights, sampling.seed, self.precision)
        results = evaluate_images(self.evaluators, self._batches(n), n, generation)
        self.costs["evaluation_seconds"] += time.monotonic() - start
        return [*results, *self.missing]


def _require_same(folder: RunFolder, recipe: Recipe) -> None:
    old = load_recipe(str(folder.experiment)).experiment.model_dump(mode="json", exclude={"plugins"})
    new = json.loads(discreet(recipe.experiment.model_dump_json(exclude={"plugins"})))
    if difference := _first_difference(old, new):
        raise BadInput(
            f"--resume: {folder.path} was begun with another {difference}; run it as it was, or start anew without --resume"
        )


def _first_difference(old: Any, new: Any, key: str = "") -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            if found := _first_difference(old.get(name), new.get(name), f"{key}.{name}".lstrip(".")):
                return found
        return ""
    return "" if old == new else f"{key} ({old!r}, now {new!r})"
