"""The schema of an experiment: frozen and strict, every key and option checked before anything is built."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ddpm_lab.config.learning_rate import Rate
from ddpm_lab.config.part import PartOf
from registry.averages import AVERAGES
from registry.backbones import BACKBONES
from registry.choice import Choice, read_choice
from registry.couplings import COUPLINGS
from registry.datasets import DATASETS
from registry.errors import BadInput, did_you_mean
from registry.features import FEATURES
from registry.grids import GRIDS
from registry.guidance import GUIDANCE
from registry.levels import LEVELS
from registry.losses import LOSSES
from registry.metrics import METRICS
from registry.objectives import OBJECTIVES
from registry.optimizers import OPTIMIZERS
from registry.options import Count, Fraction, NonNegativeInt, Positive
from registry.registry import OptionError, Registry
from registry.samplers import SAMPLERS
from registry.schedules import SCHEDULES
from registry.targets import TARGETS
from registry.variances import VARIANCES
from registry.weightings import WEIGHTINGS


class Conflict(ValueError):
    """Keys that are right one by one and do not fit each other; whoever wrote one of `keys` last is to blame."""

    def __init__(self, keys: tuple[str, ...], text: str) -> None:
        super().__init__(text)
        self.keys = keys


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _MaybePartOf(PartOf):
    """A part or none."""

    def read(self, value: Any) -> Any:
        return None if value is None else super().read(value)

    def flat(self, value: Any) -> Any:
        return value and value.flat()


class _AveragesOf(PartOf):
    """One average, several, or none; `{half_life: 15000}` is short for `{name: exponential, half_life: 15000}`."""

    def read(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return tuple(self._read_one(one, f"{number}.") for number, one in enumerate(value)) or None
        return None if value is None else self._read_one(value, "")

    def flat(self, value: Any) -> Any:
        return [one.flat() for one in value] if isinstance(value, tuple) else value and value.flat()

    def _read_one(self, value: Any, place: str) -> Choice:
        if isinstance(value, dict):
            value = {"name": "exponential", **value}
        elif not isinstance(value, (str, Choice)):
            raise BadInput(f"expected an average such as {{half_life: 15000}} or {{name: power, std: 0.1}}, got {value!r}")
        try:
            return read_choice(value, self.registry.check, "average")
        except OptionError as error:
            raise OptionError(f"{place}{error.key}", str(error)) from None


WeightsName = Annotated[str, Field(pattern=r"^(auto|raw|ema(_[\w.-]{1,40})?)$")]


class Start(_Section):
    """A run, or an exported folder, whose weights training begins with; `start: results/x` is short for `{run: results/x}`."""

    run: Annotated[str, Field(min_length=1, max_length=4096)]
    weights: WeightsName = "auto"  # auto: those that it is sampled from


def _short_for(key: str) -> BeforeValidator:
    """A text stands for a mapping with that key alone."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


class Train(_Section):
    images: Count
    start: Annotated[Start | None, _short_for("run")] = None
    batch: Count = 128
    accumulate: Count = 1
    optimizer: Annotated[Choice, PartOf(OPTIMIZERS)] = Choice("AdamW", {})
    rate: Rate
    clip: Positive | None = 1.0
    label_dropout: Fraction = 0.1
    flip: bool = False
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    compile: bool | Literal["auto"] = "auto"  # torch.compile, for training
    threads: Count | Literal["auto"] = "auto"
    ema: Annotated[
        Choice | tuple[Choice, ...] | None, _AveragesOf(AVERAGES)
    ]  # null: none; several: the first is the one that is sampled from
    on_nonfinite: Literal["stop", "skip"] = "stop"  # a step whose loss or gradient is NaN or infinite
    samples_every: Count | None = None  # images
    snapshots_every: Count | None = None  # images; EMA weights that are kept
    checkpoint_every: Count | None = None  # images
    checkpoints_kept: Count = 2

    @property
    def averages(self) -> dict[str, Choice]:
        """`ema`, `ema_2` ... as their weights are called in a run's folder."""
        chosen = self.ema if isinstance(self.ema, tuple) else () if self.ema is None else (self.ema,)
        return {"ema" if number == 1 else f"ema_{number}": choice for number, choice in enumerate(chosen, 1)}


class Sampling(_Section):
    sampler: Annotated[Choice, PartOf(SAMPLERS)] = Choice("ddim", {"eta": 0.0})
    grid: Annotated[Choice, PartOf(GRIDS)] = Choice("uniform", {})
    steps: Count = 50
    guidance: Annotated[Choice, PartOf(GUIDANCE)] = Choice("classifier_free", {"scale": 1.0})
    clip: bool | Fraction = True  # x_0 to [-1, 1]; a number: that quantile of its size, as dynamic thresholding
    batch: Count = 256
    seed: NonNegativeInt = 0
    weights: WeightsName = "auto"  # auto: the first EMA where the run has one


_Images = Annotated[int, Field(ge=2, le=10_000_000)]


def _read_metrics(value: Any) -> Any:
    for metric in value if isinstance(value, (list, tuple)) else ():
        if metric not in METRICS:
            raise BadInput(f"there is no metric '{metric}'; {did_you_mean(str(metric), [part.name for part in METRICS])}")
    return value


class Evaluate(_Section):
    features: Annotated[tuple[Annotated[Choice, PartOf(FEATURES)], ...], Field(strict=False)] = ()
    n: _Images = 2000
    every: Count | None = None  # images
    n_during: _Images = 500
    # Beside the main one, which is always measured; null: all the usual ones.
    metrics: Annotated[tuple[str, ...] | None, Field(strict=False), BeforeValidator(_read_metrics)] = None

    @property
    def wanted(self) -> frozenset[str]:
        """The metrics that are measured at the end."""
        return METRICS.usual() if self.metrics is None else frozenset(self.metrics)


_Words = Annotated[str, Field(min_length=1, max_length=128)]  # W&B's own limits, here and below


class Track(_Section):
    """Where a run is tracked besides its own folder, and under which words."""

    name: Literal["wandb", "none"] = "wandb"
    project: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^/\\#?%:]*$")] | None = None  # null: ddpm_lab
    entity: _Words | None = None  # null: the user's own
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    run_name: _Words | None = None  # null: the run's id
    group: _Words | None = None  # null: the experiment's name
    tags: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=64)], ...], Field(strict=False)] = ()
    notes: str | None = None
    job_type: Annotated[str, Field(min_length=1, max_length=64)] | None = None  # null: train


class Experiment(_Section):
    """All that a run depends on. `resolved.yaml` in a run's folder holds one, complete."""

    seed: NonNegativeInt = 0
    dataset: Annotated[Choice, PartOf(DATASETS)]
    classes: bool = False
    timesteps: Annotated[int, Field(gt=0, le=1_000_000)] = 1000  # T
    objective: Annotated[Choice, PartOf(OBJECTIVES)] = Choice("denoising", {})
    coupling: Annotated[Choice, PartOf(COUPLINGS)] = Choice("independent", {})
    schedule: Annotated[Choice, PartOf(SCHEDULES)]
    levels: Annotated[Choice, PartOf(LEVELS)] = Choice("uniform", {})
    target: Annotated[Choice, PartOf(TARGETS)]
    loss: Annotated[Choice, PartOf(LOSSES)]
    loss_space: Annotated[Choice | None, _MaybePartOf(TARGETS)] = None  # what the loss compares; null: the target itself
    weighting: Annotated[Choice, PartOf(WEIGHTINGS)] = Choice("constant", {})
    variance: Annotated[Choice, PartOf(VARIANCES)] = Choice("fixed_small", {})
    backbone: Annotated[Choice, PartOf(BACKBONES)]
    self_conditioning: bool = False  # the network is shown its last estimate of x_0 beside x_t
    train: Train
    sampling: Sampling = Sampling()
    evaluate: Evaluate = Evaluate()
    track: Annotated[Track, _short_for("name")] = Track()
    budget: str | None = None
    plugins: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Experiment:
        # Cross-key checks name the key in their text, because pydantic reports them without one.
        if self.train.images < self.train.batch:
            raise Conflict(
                ("train.images", "train.batch"),
                f"train.images: {self.train.images} images are less than one batch of {self.train.batch}",
            )
        if self.train.batch % self.train.accumulate:
            raise Conflict(
                ("train.accumulate", "train.batch"),
                f"train.accumulate: a batch of {self.train.batch} does not divide by {self.train.accumulate}",
            )
        if self.sampling.steps > self.timesteps:
            raise Conflict(
                ("sampling.steps", "timesteps"),
                f"sampling.steps: {self.sampling.steps} steps do not fit into timesteps = {self.timesteps}",
            )
        if self.sampling.weights == "ema" and self.train.ema is None:
            raise Conflict(("sampling.weights", "train.ema"), "sampling.weights: 'ema' is asked for, but train.ema is null")
        guidance = self.sampling.guidance
        traits = GUIDANCE.part(guidance.name).traits
        if not self.classes and traits.needs_classes(guidance.options):
            without = traits.strength and not traits.needs_classes({**guidance.options, traits.strength: 1})
            raise Conflict(
                ("sampling.guidance", "classes"),
                "sampling.guidance: guidance needs a network that knows classes; set classes: true"
                + (f", or {traits.strength}: 1" if without else ", or take another guidance"),
            )
        return self

    @property
    def parts(self) -> Iterator[tuple[Registry[Any, Any], Choice]]:
        """Every part that a run is made of, its features aside."""
        for key, registry in PART_FIELDS.items():
            value: Any = functools.reduce(getattr, key.split("."), self)
            yield from ((registry, choice) for choice in (value if isinstance(value, tuple) else (value,)) if choice)

    @property
    def weights(self) -> str:
        """The weights that images are sampled from."""
        if self.sampling.weights != "auto":
            return self.sampling.weights
        return "ema" if self.train.ema else "raw"


def _part_fields(section: type[BaseModel], above: str = "") -> Iterator[tuple[str, Registry[Any, Any]]]:
    for key, field in section.model_fields.items():
        if of := next((one for one in field.metadata if isinstance(one, PartOf)), None):
            yield f"{above}{key}", of.registry
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _part_fields(field.annotation, f"{above}{key}.")


# The dotted keys that hold a part, or several, and of which registry.
PART_FIELDS = dict(_part_fields(Experiment))
# `loss: l1` stands for `{name: l1}` there, and a new name drops the old options.
PART_KEYS = {*PART_FIELDS, "track"}
