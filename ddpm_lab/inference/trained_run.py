"""A finished or interrupted run, opened again from its folder alone."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Sequence
from pathlib import Path

import pydantic
import torch
from pydantic import TypeAdapter
from torch import Tensor

from ddpm_lab.config.load import Recipe, load_recipe
from ddpm_lab.config.schema import Experiment, Sampling
from ddpm_lab.diffusion.build import build_model, build_procedure
from ddpm_lab.diffusion.model import DataShape, Model
from ddpm_lab.diffusion.sampling import ImageSampler, OnStep
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.console import Progress
from ddpm_lab.runtime.device import pick_device, pick_precision
from ddpm_lab.runtime.host import pick_threads, settle
from ddpm_lab.runtime.redaction import discreet
from ddpm_lab.runtime.seeding import STREAMS
from ddpm_lab.storage.measurement import Generation
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.storage.weights import load_weights
from registry.errors import BadInput, did_you_mean
from registry.files import RECORD, read_file
from registry.guidance import ConditionalDenoise, Load
from registry.problems import first_problem
from registry.traits import Options


class Run:
    """A run that images can be sampled from. It needs neither the data set nor the experiment's file."""

    def __init__(self, path: str | Path, device: str | None = None, overrides: Sequence[str] = ()) -> None:
        """Opens the folder; the weights are read when images are sampled. `overrides` change how, such as `sampling.steps=20`.

        Raises:
            BadInput: there is no such run, or a part of it is missing or damaged.
        """
        self.folder = RunFolder.open(path)
        for override in overrides:
            if not override.startswith("sampling."):
                raise BadInput(f"'{override}': only the sampling of a trained run can be changed; name a key below sampling")
        self.recipe: Recipe = load_recipe(str(self.folder.experiment), overrides)
        self.experiment: Experiment = self.recipe.experiment
        self.device = pick_device(device)
        self.precision = pick_precision(self.experiment.train.precision, self.device)
        settle(self.device, pick_threads(self.experiment.train.threads))
        self.shape = _read_shape(self.folder)

    def sampler(self, sampling: Sampling) -> ImageSampler:
        """The trained network with a procedure.

        Raises:
            BadInput: the run has no such weights.
        """
        model = self.model(sampling)
        procedure = build_procedure(sampling, model, guides(model, self.shape, self.folder))
        return ImageSampler(model, model.network, procedure, self.shape.image_shape, self.precision)

    def model(self, sampling: Sampling) -> Model:
        """The trained network with its mathematics.

        Raises:
            BadInput: the run has no such weights.
        """
        model = build_model(self.experiment, self.shape, self.device)
        file = self.folder.weights(self.weights_of(sampling))
        if not file.is_file() and (known := self.folder.known_weights):
            raise BadInput(f"{file}: the run has no such weights; it has {', '.join(known)}")
        load_weights(file, model.network)
        model.network.eval()
        return model

    def weights_of(self, sampling: Sampling) -> str:
        """`raw`, `ema` ...; `auto` is the first EMA where the run has one."""
        return self.experiment.model_copy(update={"sampling": sampling}).weights

    def images(
        self, count: int, sampling: Sampling, chosen: Sequence[int] | None = None, on_step: OnStep | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """`count` images, uint8 [count, C, H, W], of the chosen classes in turn or of all, and their labels [count].

        There are no labels for an unconditional run. `on_step` is as `StepsSeen` says.
        """
        sampler = self.sampler(sampling)
        labels = sampler.labels(count, chosen)
        found = []
        with Progress("sampling", count) as bar:
            for _, images in sampler.images(count, sampling.seed, sampling.batch, labels, on_step):
                found.append(images)
                bar.advance(min(len(images) * distributed.size(), count - bar.done))
        # In several processes the main one gets all.
        found = distributed.collected(found)
        return torch.cat(found) if found else torch.zeros(0, *sampler.shape, dtype=torch.uint8), labels

    def generation(self, sampling: Sampling, seed: int) -> Generation:
        """How images are made with that procedure: shown beside each value."""
        return describe_generation(sampling, self.weights_of(sampling), seed, self.precision)


def guides(model: Model, shape: DataShape, folder: RunFolder | None) -> Load:
    """What gives a guidance the denoiser of another run, or of a snapshot in `folder`, on the same path."""

    @functools.cache
    def load(name: str) -> ConditionalDenoise:
        if name.endswith(".safetensors"):
            if folder is None:
                raise BadInput(f"sampling.guidance.guide: '{name}': a snapshot can guide the finished run only; name a run")
            poor = copy.deepcopy(model.network)
            load_weights(folder.path / name, poor)
            return model.diffusion.conditional(poor.eval())
        other = Run(name, str(model.diffusion.device))
        found = other.model(other.experiment.sampling)
        mine, theirs = model.diffusion.path, found.diffusion.path
        same_path = mine.kind == theirs.kind and torch.equal(mine.angle, theirs.angle)
        for same, what in (
            (same_path, "schedule"), (found.classes == model.classes, "classes"),
            (other.shape.image_shape == shape.image_shape, "image size"),
        ):  # fmt: skip
            if not same:
                raise BadInput(f"sampling.guidance.guide: '{name}' was trained with another {what}; a guide shares it")
        return found.diffusion.conditional(found.network)

    return load


def class_number(name: str, names: tuple[str, ...] | None) -> int:
    """The number of a class, of its name in whatever case, or of the number as text.

    Raises:
        BadInput: there is no such class.
    """
    known = [one.casefold() for one in names or ()]
    if name.casefold() in known:
        return known.index(name.casefold())
    if re.fullmatch(r"-?[0-9]{1,9}", name):
        return int(name)
    if not known:
        raise BadInput(f"class '{name}': the data of this run have no named classes; give a number")
    raise BadInput(f"no class named '{name}'; {did_you_mean(name, names or ())}")


def describe_generation(sampling: Sampling, weights: str, seed: int, precision: str) -> Generation:
    """Sampler, steps, grid, guidance, clipping, weights, seed, version of the random streams, and precision."""
    found: Generation = discreet({
        "sampler": part_in_words(sampling.sampler.flat()), "steps": sampling.steps,
        "grid": part_in_words(sampling.grid.flat()), "guidance": part_in_words(sampling.guidance.flat()),
        "clip": sampling.clip, "weights": weights, "seed": seed, "random_streams": STREAMS, "precision": precision,
    })  # fmt: skip
    return found


def split_part(text: str) -> tuple[str, dict[str, str]]:
    """Name and options of a part in such words; of other words all of them, and no option."""
    named = re.fullmatch(r"(\w+) \((.*)\)", text)
    if named is None:
        return text, {}
    options = (option.partition(" ") for option in re.split(r", (?=[a-z_]\w* )", named[2]))
    return named[1], {key: value for key, _, value in options}


def part_in_words(flat: Options) -> str:
    """`ddim (eta 0.0)`: a part with its options, as records have it."""
    options = ", ".join(f"{key} {value}" for key, value in flat.items() if key != "name")
    return f"{flat['name']} ({options})" if options else str(flat["name"])


def _read_shape(folder: RunFolder) -> DataShape:
    try:
        return TypeAdapter(DataShape).validate_json(read_file(folder.data, RECORD), strict=True)
    except pydantic.ValidationError as error:
        text = str(first_problem(error))
    except OSError as error:
        text = str(error)
    raise BadInput(f"{folder.data}: the run's description of its data cannot be read ({text})")
