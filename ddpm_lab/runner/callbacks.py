"""What happens beside the training of a run: rows of metrics, samples, FID, snapshots, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ddpm_lab.diffusion.sampling import ImageSampler
from ddpm_lab.evaluation.evaluator import Evaluator, measure
from ddpm_lab.runner.prepare import Prepared
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.launcher import is_main
from ddpm_lab.runtime.seeding import STREAMS
from ddpm_lab.runtime.signals import NotFinite
from ddpm_lab.storage.checkpoints import Checkpoint, Checkpoints
from ddpm_lab.storage.images import PLANE, save_grid
from ddpm_lab.storage.metrics_log import Picture, Row
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.storage.weights import save_weights
from ddpm_lab.training.callback import Callback
from registry.averages import AVERAGES
from registry.metrics import METRICS

PREVIEW, POINTS = 36, 1000  # images in the periodic samples, and points where these are points


@dataclass
class RunCallbacks:
    """What the trainer of a run calls, to be added to in `listed`.

    In several processes each samples its share of the images; the main one writes the folder.
    """

    prepared: Prepared
    folder: RunFolder
    evaluators: list[Evaluator]
    costs: dict[str, float] = field(default_factory=lambda: {"sampling_seconds": 0.0, "evaluation_seconds": 0.0})

    def __post_init__(self) -> None:
        self.experiment, self.trainer = self.prepared.experiment, self.prepared.trainer

    def listed(self) -> list[Callback]:
        """What happens while the network is trained, in that order."""
        train = self.experiment.train
        return [
            Callback(lambda images: self.log(Row(images, self.trainer.row())), self.trainer.images_per_row, at_end=True),
            Callback(self.sample, every=train.samples_every),
            Callback(self.evaluate, every=self.experiment.evaluate.every),
            Callback(self.snapshot, every=train.snapshots_every),
            Callback(self.checkpoint, every=train.checkpoint_every, on_stop=True),
        ]

    def log(self, row: Row) -> None:
        """One row of metrics; whoever tracks the run follows the file."""
        if is_main():
            self.folder.append_metrics(row)

    def checkpoint(self, images: int) -> None:
        """What a resumed run needs, and the weights as they are now."""
        state = self.trainer.state()
        if is_main():
            self.save_weights()
            found = Checkpoint(images, len(self.folder.read_metrics()), self.costs, STREAMS, state)
            Checkpoints(self.folder.checkpoints).save(found, self.experiment.train.checkpoints_kept)
        distributed.barrier()

    def snapshot(self, images: int) -> None:
        """The weights that images are sampled from, kept as they are now, and power-function averages beside them."""
        if is_main():
            self.folder.snapshots.mkdir(exist_ok=True)
            train, sampled = self.experiment.train, self.experiment.weights
            widths = {}  # of those whose profiles can be combined into others
            for name, choice in train.averages.items():
                if (power_std := AVERAGES.part(choice.name).traits.power_std) is not None:
                    widths[name] = {"std": power_std(choice.options)}
            for name in {sampled, *widths}:
                about = {"images": images, "batch": train.batch, **widths.get(name, {})}
                save_weights(
                    self.folder.snapshot(images, "" if name == sampled else name), self.trainer.sampling_network(name), about
                )

    def save_weights(self) -> None:
        """raw.safetensors, and a file for each average."""
        about: dict[str, str | float] = {"images": self.trainer.images, "backbone": self.experiment.backbone.name}
        save_weights(self.folder.weights("raw"), self.trainer.network, about)
        for name, average in self.trainer.averages.items():
            save_weights(self.folder.weights(name), average.network, about)

    def sampler(self) -> ImageSampler:
        """The network as it is now, with the experiment's procedure."""
        return self.prepared.sampler(self.trainer.sampling_network(self.experiment.weights))

    def batches(self, n: int) -> Iterator[tuple[int, Tensor]]:
        """`n` samples of the network as it is now: this process's batches, each with the number of its first image."""
        sampling, sampler = self.experiment.sampling, self.sampler()
        return sampler.images(n, sampling.seed, sampling.batch, sampler.labels(n))

    def sample(self, images: int) -> None:
        """A grid of samples from the same noise as all the others of this run."""
        start = time.monotonic()
        try:
            count = POINTS if self.prepared.shape.image_shape == PLANE else PREVIEW
            grid = distributed.collected([batch for _, batch in self.batches(count)])
        except NotFinite as error:
            say(f"after {images:,} images: no grid of samples: {error}")
            return
        finally:
            self.costs["sampling_seconds"] += time.monotonic() - start
        if is_main():
            file = self.folder.samples / f"{images:09d}.png"
            save_grid(file, torch.cat(grid))
            caption = f"{images:,} images seen, {self.experiment.weights} weights"
            self.log(Row(images, pictures={"samples": Picture(f"samples/{file.name}", caption)}))

    def evaluate(self, images: int) -> None:
        """The metrics that are measured while it trains, at small N."""
        if not self.evaluators:
            return
        start, n = time.monotonic(), self.experiment.evaluate.n_during
        try:
            measured = measure(self.evaluators, self.batches(n), n, "evaluating", passing=True, shared=True)
        except NotFinite as error:
            say(f"after {images:,} images: no {METRICS.main}: {error}")
            return
        if not is_main():
            return
        row: dict[str, float | None] = {"n": n}
        for evaluator, statistics in zip(self.evaluators, measured, strict=True):
            try:
                values = evaluator.values_during(statistics)
            except NotFinite as error:
                say(f"after {images:,} images: no {METRICS.main} in {evaluator.name}: {error}")
                continue
            row |= {f"{metric}/{evaluator.name}": value for metric, value in values.items()}
            by = ", ".join(filter(None, (evaluator.name, evaluator.caveat)))
            how = f"{by}, N = {n:,}, {self.experiment.weights} weights"
            told = f"{METRICS.main} {found:.3f}" if (found := values.get(METRICS.main)) is not None else f"no {METRICS.main}"
            say(f"after {images:,} images: {told} ({how})")
        self.costs["evaluation_seconds"] += time.monotonic() - start
        self.log(Row(images, row))
