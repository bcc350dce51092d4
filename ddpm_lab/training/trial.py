"""Two images through every part before anything is created: what a part does wrong is found out here, and put down to it."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ddpm_lab.config.schema import Experiment
from ddpm_lab.diffusion.build import build_part
from ddpm_lab.diffusion.model import Model, Objective, Procedure
from ddpm_lab.diffusion.process import Network
from ddpm_lab.runtime.device import Precision, autocast, layers_generator
from ddpm_lab.training.learner import Moment
from ddpm_lab.training.loss import make_batch, training_loss
from registry.averages import AVERAGES
from registry.blame import on_behalf_of
from registry.datasets import ImageSet
from registry.levels import AdaptiveLevels
from registry.objectives import Batch
from registry.samplers import Denoised, Grid

IMAGES = 2
STEPS = 4  # of the sampler: what one of third order needs to show itself whole
ROUNDING = 1e-6  # of a level: the square of a square root may be a little more
FAILS = "fails on two images"


def try_parts(
    experiment: Experiment, data: ImageSet, model: Model, objective: Objective, procedure: Procedure, precision: Precision
) -> None:
    """Learn from two images, and sample two.

    On copies, and all generators are put back: weights, gradients, adaptive levels and random numbers are as they were.

    Raises:
        BadInput: a part fails, or does not give what parts of its kind promise.
    """
    device = next(model.network.parameters()).device
    with _generators_put_back(device):
        with on_behalf_of("backbones", experiment.backbone.name, FAILS):
            tried = Model(model.diffusion, copy.deepcopy(model.network), model.variance, model.classes)
        copied = copy.deepcopy(objective)
        batch = _batch(experiment, data, tried, copied, device)
        with autocast(precision, device):
            _learn(experiment, tried, copied, batch)
        with torch.inference_mode(), autocast(precision, device):
            _sample(experiment, tried, procedure, batch)


def _batch(experiment: Experiment, data: ImageSet, model: Model, objective: Objective, device: torch.device) -> Batch:
    chosen = torch.tensor([0, len(data.train) - 1])
    images = data.train.rows(chosen).to(device)
    labels = data.train.labels[chosen].to(device) if experiment.classes and data.train.labels is not None else None
    with on_behalf_of("levels", experiment.levels.name, FAILS):
        batch = make_batch(images, labels, model.classes or 0, objective, experiment.train, experiment.seed, 0)
        top = model.diffusion.path.steps - 1
        _require(batch.level, (IMAGES,), "levels")
        _require(batch.importance, (IMAGES,), "importance")
        if not bool(((batch.level >= 0) & (batch.level <= top + ROUNDING)).all()):
            raise ValueError(f"gives levels {batch.level.tolist()}, which do not lie between 0 and T - 1 = {top}")
    return batch


def _learn(experiment: Experiment, model: Model, objective: Objective, batch: Batch) -> None:
    diffusion, shape = model.diffusion, tuple(batch.x0.shape)
    alpha, sigma = diffusion.point(batch.level, like=batch.x0)
    x_t = alpha * batch.x0 + sigma * batch.eps
    with on_behalf_of("targets", experiment.target.name, FAILS):
        target = diffusion.target.of(batch.x0, batch.eps, alpha, sigma)
        _require(target, shape, "what the network regresses")
        for part in diffusion.target.split(target, x_t, alpha, sigma):
            _require(part, shape, "x_0 or eps")
    with on_behalf_of("backbones", experiment.backbone.name, FAILS):
        model.network.train()
        output = diffusion.predict(model.network, x_t, batch.level, batch.y)
        _require(output, (IMAGES, shape[1] * (1 + model.variance.extra_channels), *shape[2:]), "a prediction")
    with on_behalf_of("losses", experiment.loss.name, FAILS):
        _require(objective.loss(output[:, : shape[1]].detach(), target), shape, "an elementwise loss")
    with on_behalf_of("weightings", experiment.weighting.name, FAILS):
        if isinstance(objective.weighting, torch.nn.Module):
            _require(objective.weighting(*diffusion.snr(batch.level)), (IMAGES,), "log variances")
        else:
            _require(diffusion.weight(objective.weighting, batch.level), (IMAGES,), "weights")
    # The whole once more, as in a step: what only fails together, such as a gradient that nobody gives.
    moment = Moment(experiment.seed, 0, 0.0, IMAGES)
    with on_behalf_of("objectives", experiment.objective.name, FAILS):
        losses = training_loss(model, objective, model.network, batch, moment, model.network)
        _require(losses, (IMAGES,), "losses")
    with on_behalf_of("backbones", experiment.backbone.name, "cannot be trained"):
        losses.mean().backward()  # type: ignore[no-untyped-call]
    if isinstance(objective.levels, AdaptiveLevels):
        with on_behalf_of("levels", experiment.levels.name, FAILS):
            objective.levels.update(batch.level, losses.detach())
    for choice in experiment.train.averages.values():
        decay = build_part(AVERAGES, choice)
        with on_behalf_of("averages", choice.name, "fails on the first step"):
            if not 0 <= (share := float(decay(experiment.train.batch, experiment.train.batch))) <= 1:
                raise ValueError(f"gives {share:g}, where a share from 0 to 1 is expected")


def _sample(experiment: Experiment, model: Model, procedure: Procedure, batch: Batch) -> None:
    sampling, diffusion, shape = experiment.sampling, model.diffusion, tuple(batch.x0.shape)
    levels, path = procedure.grid.levels, procedure.grid.path
    with on_behalf_of("grids", sampling.grid.name, "does not suit the path"):
        _require(levels, (sampling.steps,), "levels")
        within = (levels >= 0) & (levels <= path.steps - 1 + ROUNDING)
        if not bool(within.all() & (levels.diff() <= 0).all()):
            raise ValueError("gives levels that do not fall, or that leave the path")
    network: Network = model.network.eval()
    y = None if model.classes is None else torch.zeros(IMAGES, dtype=torch.long, device=diffusion.device)
    with on_behalf_of("guidance", sampling.guidance.name, FAILS):
        guided = procedure.guidance(diffusion.conditional(network))  # without what comes from step to step
        found = Denoised(*guided(batch.eps, levels[0], y))
        _require(found.x0, shape, "an x_0")
        _require(found.eps, shape, "an eps")
    few = levels[torch.linspace(0, len(levels) - 1, min(STEPS, len(levels))).round().long()]
    with on_behalf_of("samplers", sampling.sampler.name, FAILS):
        grid = Grid(path, few, model.variance)
        denoise = procedure.denoise(diffusion, network, y)
        _require(procedure.sampler(denoise, grid, lambda: torch.randn_like(batch.eps)), shape, "images")


def _require(found: object, shape: tuple[int, ...], what: str) -> None:
    if not isinstance(found, Tensor):
        raise TypeError(f"gives {type(found).__name__}, where {what} {list(shape)} is expected")
    if tuple(found.shape) != shape:
        raise ValueError(f"gives {list(found.shape)}, where {what} {list(shape)} is expected")


@contextlib.contextmanager
def _generators_put_back(device: torch.device) -> Iterator[None]:
    """Torch's, numpy's and Python's own, which a part may use."""
    python, numpy = random.getstate(), np.random.get_state()
    layers = layers_generator(device)
    state = layers.get_state()
    try:
        with torch.random.fork_rng(devices=[]):  # that of the CPU
            yield
    finally:
        layers.set_state(state)
        random.setstate(python)
        np.random.set_state(numpy)
