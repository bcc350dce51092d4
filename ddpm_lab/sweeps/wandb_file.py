"""W&B sweep files (https://docs.wandb.ai/models/sweeps/define-sweep-configuration), read without W&B."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ddpm_lab.config.yaml_reader import read_mapping
from registry.errors import BadInput
from registry.options import Count
from registry.problems import first_problem

ARGUMENTS = "${args_no_hyphens}"
Values = dict[tuple[str, ...], Any]  # a trial: the path of each parameter, and its value
DISTRIBUTIONS = Literal[
    "constant", "categorical", "int_uniform", "uniform", "q_uniform", "log_uniform", "log_uniform_values",
    "q_log_uniform_values",
]  # fmt: skip


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Parameter(_Strict):
    """One parameter; what W&B infers of its distribution is inferred here too."""

    value: Any = None
    values: Annotated[list[Any], Field(min_length=1)] | None = None
    min: float | int | None = None
    max: float | int | None = None
    q: Annotated[float, Field(gt=0)] = 1.0
    distribution: DISTRIBUTIONS | None = None

    @property
    def kind(self) -> str:
        """The distribution, W&B's own choice where the file says none."""
        if self.distribution is not None:
            return self.distribution
        if self.min is None:
            return "categorical" if self.values is not None else "constant"
        return "int_uniform" if isinstance(self.min, int) and isinstance(self.max, int) else "uniform"

    @property
    def choices(self) -> list[Any] | None:
        """All its values, where they can be counted."""
        return {"categorical": self.values, "constant": [self.value]}.get(self.kind)

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest value; those of `log_uniform` are given as powers of e."""
        assert self.min is not None
        assert self.max is not None
        return (math.exp(self.min), math.exp(self.max)) if self.kind == "log_uniform" else (self.min, self.max)

    @property
    def logarithmic(self) -> bool:
        """Whether its logarithm is what is uniform."""
        return "log" in self.kind

    @model_validator(mode="after")
    def _whole(self) -> Parameter:
        ranged, listed = (self.min is not None or self.max is not None), self.values is not None
        if self.kind == "constant" and (ranged or listed or "value" not in self.model_fields_set):
            raise BadInput("`value`, `values`, or `min` and `max` are needed, and one of the three only")
        if self.kind == "categorical" and (ranged or not listed):
            raise BadInput("categorical takes `values`")
        if self.choices is None:
            if listed or self.min is None or self.max is None:
                raise BadInput(f"{self.kind} takes `min` and `max`")
            if not self.min < self.max or (self.logarithmic and self.kind != "log_uniform" and self.min <= 0):
                raise BadInput(f"{self.kind} from {self.min} to {self.max} is not a range")
        return self


class Metric(_Strict):
    """What is made small, or large."""

    name: str
    goal: Literal["minimize", "maximize"] = "minimize"


class EarlyTerminate(_Strict):
    """Hyperband: a trial that is not among the best 1 / eta at a bracket is stopped; brackets count values of the metric."""

    type: Literal["hyperband"]
    min_iter: Count | None = None
    max_iter: Count | None = None
    s: Count = 1
    eta: Annotated[int, Field(ge=2)] = 3
    strict: bool = False

    @model_validator(mode="after")
    def _one_of_two(self) -> EarlyTerminate:
        if (self.min_iter is None) == (self.max_iter is None):
            raise BadInput("hyperband takes `min_iter`, or `max_iter` and `s`")
        return self

    @property
    def first_bracket(self) -> int:
        """After how many values the first trials are stopped."""
        return self.min_iter if self.min_iter is not None else max(1, (self.max_iter or 1) // self.eta**self.s)


class SweepFile(_Strict):
    """A sweep as W&B has it."""

    method: Literal["grid", "random", "bayes"]
    command: Annotated[list[str], Field(min_length=1)]
    parameters: Annotated[dict[str, Any], Field(min_length=1)]
    metric: Metric | None = None
    run_cap: Count | None = None
    early_terminate: EarlyTerminate | None = None
    program: str | None = None
    name: str | None = None
    description: str | None = None
    project: str | None = None
    entity: str | None = None

    @property
    def flat(self) -> dict[tuple[str, ...], Parameter]:
        """Each parameter under its path; a nested group gives paths of several pieces."""
        return dict(_flat(self.parameters))

    def grid(self) -> Iterator[Values]:
        """Every combination, the last parameter changing fastest."""
        flat = self.flat
        for point in itertools.product(*(parameter.choices or [] for parameter in flat.values())):
            yield dict(zip(flat, point, strict=True))

    @model_validator(mode="after")
    def _whole(self) -> SweepFile:
        flat = self.flat
        if ARGUMENTS not in self.command:
            raise BadInput(f"command: it must hold `{ARGUMENTS}`, which become the lab's overrides")
        if others := [word for word in self.command if word.startswith("${") and word not in KNOWN]:
            raise BadInput(f"command: `{others[0]}` is not known here; known: {', '.join(KNOWN)}")
        if "${program}" in self.command and self.program is None:
            raise BadInput("program: the command names it, the file does not")
        endless = [".".join(path) for path, parameter in flat.items() if parameter.choices is None]
        if self.method == "grid" and endless:
            raise BadInput(f"parameters: {endless[0]}: a grid needs `values` or `value`")
        if self.method != "grid" and self.run_cap is None:
            raise BadInput(f"run_cap: a {self.method} search never ends without it; set the number of trials")
        if self.metric is None and (self.method == "bayes" or self.early_terminate):
            raise BadInput("metric: bayes and early_terminate need one, such as {name: FID/fashion_cnn, goal: minimize}")
        return self


KNOWN = ("${env}", "${interpreter}", "${program}", ARGUMENTS)


def _flat(parameters: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Parameter]]:
    for name, about in parameters.items():
        path = (*above, name)
        if isinstance(about, dict) and isinstance(about.get("parameters"), dict):
            yield from _flat(about["parameters"], path)
            continue
        try:
            yield path, Parameter.model_validate(about)
        except pydantic.ValidationError as error:
            raise BadInput(f"parameters: {'.'.join(path)}: {first_problem(error, Parameter)}") from None


def arguments(values: Values) -> list[str]:
    """What an agent makes of a trial: `name=value`, and one argument for a whole group, as Python writes it."""
    tree: dict[str, Any] = {}
    for path, value in values.items():
        place = tree
        for piece in path[:-1]:
            place = place.setdefault(piece, {})
        place[path[-1]] = value
    return [f"{name}={value}" for name, value in tree.items()]


def dotted(values: Mapping[str, Any]) -> dict[str, Any]:
    """A trial as a person writes it: `train.rate.peak` and its value, also where the file gives a whole group as one value."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= {f"{name}.{below}": one for below, one in dotted(value).items()}
        else:
            found[name] = value
    return found


def read(file: Path) -> SweepFile:
    """A sweep file, validated.

    Raises:
        BadInput: W&B or the lab could not use it; the text names the file and the key.
    """
    try:
        return SweepFile.model_validate(read_mapping(file))
    except pydantic.ValidationError as error:
        raise BadInput(f"{file}: {first_problem(error, SweepFile)}") from None
