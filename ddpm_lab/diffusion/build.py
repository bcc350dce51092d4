"""From an Experiment to the objects of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import TypeVarTuple, Unpack

from ddpm_lab.config.schema import Experiment, Sampling
from ddpm_lab.diffusion.model import DataShape, Model, Objective, Procedure
from ddpm_lab.diffusion.process import Diffusion
from ddpm_lab.runtime.device import pick_memory_format
from ddpm_lab.runtime.seeding import restart
from registry.backbones import BACKBONES
from registry.backbones.embeddings import add_second_level
from registry.blame import PartFails, on_behalf_of
from registry.choice import Choice
from registry.couplings import COUPLINGS, Sampled
from registry.datasets import DATASETS, ImageSet
from registry.errors import BadInput
from registry.grids import GRIDS
from registry.guidance import GUIDANCE, Load
from registry.levels import LEVELS
from registry.losses import LOSSES
from registry.objectives import OBJECTIVES
from registry.path import NoisePath
from registry.registry import Registry
from registry.samplers import SAMPLERS, Denoised, Grid, Sampler
from registry.schedules import SCHEDULES
from registry.targets import TARGETS
from registry.variances import VARIANCES
from registry.weightings import WEIGHTINGS

Supplied = TypeVarTuple("Supplied")
Built = TypeVar("Built")


def build_part(
    registry: Registry[Callable[[Unpack[Supplied]], Built], Any], choice: Choice, *supplied: Unpack[Supplied]
) -> Built:
    """The part, called with what the lab supplies; what it dies of is put down to it."""
    with on_behalf_of(registry, choice.name, "cannot be built so"):
        return registry.configure(choice.name, choice.options)(*supplied)


def build_images(choice: Choice) -> ImageSet:
    """A data set, fetched if need be, the first and last image of each half looked at."""
    data = build_part(DATASETS, choice)
    with on_behalf_of(DATASETS, choice.name, "is no data set"):
        if not isinstance(data, ImageSet):
            raise TypeError(f"gives {type(data).__name__}, where an ImageSet is expected")
        for half in (data.train, data.test):
            images = half.rows(torch.tensor([0, len(half) - 1]))
            if images.dtype != torch.uint8 or tuple(images.shape) != (2, *data.image_shape):
                raise TypeError(
                    f"gives {images.dtype} {list(images.shape)}, where torch.uint8 {[2, *data.image_shape]} is expected"
                )
    return data


def build_data(experiment: Experiment) -> ImageSet:
    """The data set of an experiment."""
    data = build_images(experiment.dataset)
    if experiment.classes and data.classes is None:
        raise BadInput(f"classes: true, but the data set '{data.name}' has no labels")
    if data.std == 0:
        raise BadInput(f"dataset: all pixels of the training images of '{data.name}' are alike; there is nothing to learn")
    if experiment.train.batch > len(data.train):
        raise BadInput(
            f"train.batch: {experiment.train.batch} is larger than the data, {len(data.train)} images; make it smaller"
        )
    return data


def build_model(experiment: Experiment, shape: DataShape, device: torch.device) -> Model:
    """Path, target and freshly initialised network; the same weights for the same seed on every machine."""
    path = build_path(experiment)
    variance = build_part(VARIANCES, experiment.variance)
    classes = len(shape.class_names) if experiment.classes and shape.class_names else None
    channels = shape.image_shape[0] * (1 + variance.extra_channels)
    in_channels, height, width = shape.image_shape
    shown = (in_channels * (2 if experiment.self_conditioning else 1), height, width)  # the last estimate of x_0 beside x_t
    traits = OBJECTIVES.part(experiment.objective.name).traits
    denoises = "denoiser" in traits.network and COUPLINGS.part(experiment.coupling.name).traits.independent
    try:
        with _seeded(experiment.seed, "init"):
            network = build_part(BACKBONES, experiment.backbone, shown, classes, channels)
            if traits.second_level:
                add_second_level(network)
    except PartFails:
        raise
    except BadInput as error:
        raise BadInput(f"backbone: {error}") from None
    target = build_part(TARGETS, experiment.target, shape.std)
    network.to(device).to(memory_format=pick_memory_format(experiment.train.memory_format, device))
    diffusion = Diffusion(path, target, traits.second_level, experiment.self_conditioning, device)
    return Model(diffusion, network, variance, classes, denoises)


def no_pairs(run: str, indices: range) -> tuple[Tensor, Tensor, Tensor | None]:
    """For whoever trains nothing."""
    raise BadInput(f"coupling: nobody is there to sample '{run}'")


def build_objective(experiment: Experiment, shape: DataShape, model: Model, sampled: Sampled = no_pairs) -> Objective:
    """All that training needs for that model and data; `sampled` gives a coupling the images of another run."""
    path, chosen = model.diffusion.path, experiment.objective
    with _seeded(experiment.seed, "init of the weighting"):
        weighting = build_part(WEIGHTINGS, experiment.weighting, shape.std)
    traits = OBJECTIVES.part(chosen.name).traits
    dependent = not COUPLINGS.part(experiment.coupling.name).traits.independent
    return Objective(
        levels=build_part(LEVELS, experiment.levels, path),
        loss=LOSSES.configure(experiment.loss.name, experiment.loss.options),
        weighting=weighting.to(model.diffusion.device) if isinstance(weighting, nn.Module) else weighting,
        space=None if experiment.loss_space is None else build_part(TARGETS, experiment.loss_space, shape.std),
        coupling=build_part(COUPLINGS, experiment.coupling, sampled) if dependent else None,
        compute=OBJECTIVES.configure(chosen.name, chosen.options),
        teacher=None if traits.teacher is None else traits.teacher(chosen.options, experiment.train.images),
        smooth_teacher=traits.smooth_teacher,
    )


def build_procedure(sampling: Sampling, model: Model, load: Load) -> Procedure:
    """The sampler on its grid, with its guidance; `load` gives the denoiser of another run."""
    path = model.diffusion.path
    sampler, grid = build_sampler(sampling, model)
    guide = GUIDANCE.configure(sampling.guidance.name, sampling.guidance.options)
    with on_behalf_of(GUIDANCE, sampling.guidance.name, "cannot be built so"):
        guide(_uncalled, path, load)  # a run that cannot guide is found out here, and not after the training
    return Procedure(sampler, lambda denoise: guide(denoise, path, load), grid, sampling.clip)


def build_sampler(sampling: Sampling, model: Model) -> tuple[Sampler, Grid]:
    """The sampler with its options, and the levels that it visits."""
    path = model.diffusion.path
    levels = build_levels(sampling, path)
    return SAMPLERS.configure(sampling.sampler.name, sampling.sampler.options), Grid(path, levels, model.variance)


def build_levels(sampling: Sampling, path: NoisePath) -> Tensor:
    """The levels that the sampler visits, most noisy first.

    Raises:
        BadInput: there are more than the path has, or the grid does not suit the path.
    """
    if sampling.steps > path.steps:
        raise BadInput(f"sampling.steps: {sampling.steps} steps do not fit into timesteps = {path.steps}")
    return build_part(GRIDS, sampling.grid, path, sampling.steps)


def _uncalled(x: Tensor, level: Tensor, y: Tensor | None) -> Denoised:
    raise AssertionError("nothing is denoised before there are images")


@contextlib.contextmanager
def _seeded(seed: int, purpose: str) -> Iterator[None]:
    """The same initial weights for the same seed on every machine."""
    with torch.random.fork_rng(devices=[]):
        restart(torch.default_generator, seed, purpose)
        yield


def build_path(experiment: Experiment) -> NoisePath:
    """The schedule at its T."""
    try:
        return build_part(SCHEDULES, experiment.schedule, experiment.timesteps)
    except PartFails as error:
        raise BadInput(f"{error}; it was asked for timesteps = {experiment.timesteps}") from None
    except BadInput as error:
        raise BadInput(f"schedule: {error}") from None
