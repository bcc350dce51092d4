"""The first step of a run, and all of `check`: its experiment's parts are built and tried, and no results folder is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ddpm_lab.config.schema import Experiment
from ddpm_lab.diffusion.build import build_data, build_model, build_objective, build_procedure
from ddpm_lab.diffusion.compatibility import require_fit, warnings
from ddpm_lab.diffusion.cost import flops_if_countable
from ddpm_lab.diffusion.model import DataShape, Model, Procedure
from ddpm_lab.diffusion.sampling import ImageSampler
from ddpm_lab.evaluation.extractors import tried_extractor
from ddpm_lab.inference.pairs import pairs_of
from ddpm_lab.inference.starting_weights import begin_from
from ddpm_lab.inference.trained_run import guides
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.device import Precision, pick_precision
from ddpm_lab.runtime.host import settle
from ddpm_lab.storage.starting_weights import StartingWeights
from ddpm_lab.training.trainer import Trainer
from ddpm_lab.training.trial import try_parts
from registry.choice import Choice
from registry.datasets import ImageSet
from registry.errors import BadInput


@dataclass(frozen=True)
class Prepared:
    """The objects of one run; of these only the trainer changes."""

    experiment: Experiment
    device: torch.device
    precision: Precision
    data: ImageSet
    shape: DataShape
    model: Model
    procedure: Procedure
    trainer: Trainer
    start: StartingWeights | None  # None too where a checkpoint takes their place

    def sampler(self, network: nn.Module) -> ImageSampler:
        """What samples images by that network, with the experiment's procedure."""
        return ImageSampler(self.model, network, self.procedure, self.shape.image_shape, self.precision)

    @property
    def flops_per_image(self) -> int | None:
        """Of one forward pass; None for a network that cannot be run without numbers."""
        return flops_if_countable(self.model, self.shape)

    def try_extractor(self, choice: Choice) -> None:
        """Have an extractor take two images of the data.

        Raises:
            BadInput: it does not, or its weights cannot be had.
        """
        tried_extractor(choice, self.data, self.device)

    def warnings(self) -> Iterator[str]:
        """What of the experiment is probably unintended."""
        return warnings(self.experiment, self.model, self.trainer.objective, self.shape.std)


def prepare(
    experiment: Experiment, device: torch.device, threads: Callable[[], int], begins: Callable[[], bool] = lambda: True,
    results: Path = Path("results"),
) -> Prepared:  # fmt: skip
    """Build and try every part of a run.

    `threads` is asked for their number before the data are read, whose statistics depend on it in the last bits; then `begins`
    whether the run starts from its first image, and so with the weights that `train.start` names, maybe of a run in `results`.

    Raises:
        BadInput: a part cannot be built, fails on two images, or does not fit the others.
    """
    _require_weights(experiment)
    _require_divisible(experiment)
    precision = pick_precision(experiment.train.precision, device)
    settle(device, threads())
    with distributed.first_on_each_machine():
        data = build_data(experiment)
    shape = DataShape.of(data)
    model = build_model(experiment, shape, device)
    start = begin_from(experiment.train.start, model.network, results) if experiment.train.start and begins() else None
    objective = build_objective(experiment, shape, model, pairs_of(experiment, shape, device))
    require_fit(experiment, model, objective)
    procedure = build_procedure(experiment.sampling, model, guides(model, shape, None))
    try_parts(experiment, data, model, objective, procedure, precision)
    trainer = Trainer(experiment, model, objective, data.train, precision)
    return Prepared(experiment, device, precision, data, shape, model, procedure, trainer, start)


def _require_weights(experiment: Experiment) -> None:
    if experiment.weights not in (known := ["raw", *experiment.train.averages]):
        raise BadInput(f"sampling.weights: this run will have no '{experiment.weights}', but {', '.join(known)}")


def _require_divisible(experiment: Experiment) -> None:
    batch, parts = experiment.train.batch, experiment.train.accumulate
    if distributed.joined() and batch % (distributed.size() * parts):
        shares = f"{distributed.size()} processes" + (f" times train.accumulate = {parts}" if parts > 1 else "")
        raise BadInput(f"train.batch: {batch} images do not divide over {shares}")
