"""A suite: a YAML file that names experiments, seeds and what is to be compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ddpm_lab.recipe import Recipe, load_recipe
from ddpm_lab.records import HIGHER
from ddpm_lab.yaml_loader import read_mapping
from registry.errors import BadInput, did_you_mean
from registry.options import Count

HOME = Path(__file__).with_name("suites")
Words = Annotated[tuple[str, ...], Field(strict=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Entry(_Strict):
    """A line of the comparison: an experiment, with overrides, under a name."""

    name: Annotated[str, Field(pattern=r"^[\w.-]{1,40}$")]
    experiment: str
    set: Words = ()


class Curve(_Strict):
    """What `evaluate --curve nfe` is told of each experiment's first run."""

    samplers: Words
    at: Annotated[tuple[Count, ...], Field(strict=False, min_length=2)]
    n: Annotated[int, Field(ge=2)]


def _entry(value: Any) -> Any:
    return {"name": value, "experiment": value} if isinstance(value, str) else value


class Suite(_Strict):
    """The whole file."""

    about: str
    experiments: Annotated[tuple[Annotated[Entry, BeforeValidator(_entry)], ...], Field(strict=False, min_length=1)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False, min_length=1)]
    budget: str = "cpu"
    set: Words = ()
    factors: Mapping[str, str] = {}  # a name, and the dotted key of the experiment that has its level
    metrics: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = ("FID",)  # the first ranks; less has to be better
    curve: Curve | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Suite:
        names = [entry.name for entry in self.experiments]
        for kind, values in (("experiments", names), ("seeds", self.seeds)):
            if len(set(values)) < len(values):
                raise ValueError(f"{kind}: one is there twice: {', '.join(map(str, values))}")
        if self.metrics[0] in HIGHER:
            raise ValueError(
                f"metrics: {self.metrics[0]} comes first, which ranks; name one of which less is better, such as FID"
            )
        return self


class Cell(pydantic.BaseModel):
    """One run of a suite: checked, and with the words that start it."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)
    entry: Entry
    seed: int
    words: tuple[str, ...]
    levels: Mapping[str, str]  # of each factor
    id: str  # changes with whatever the run depends on


def find(name: str) -> Path:
    """The file of a suite: a name in benchmarks/suites, or a path.

    Raises:
        BadInput: there is none.
    """
    file = Path(name) if name.endswith((".yaml", ".yml")) else HOME / f"{name}.yaml"
    if not file.is_file():
        known = sorted(path.stem for path in HOME.glob("*.yaml"))
        raise BadInput(f"no suite '{name}'; {did_you_mean(name, known)}")
    return file


def read(file: Path) -> Suite:
    """The suite.

    Raises:
        BadInput: the file cannot be read, or a key or value is wrong.
    """
    try:
        return Suite.model_validate(read_mapping(file))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        known = f"; known: {', '.join(Suite.model_fields)}" if first["type"] == "extra_forbidden" and "." not in where else ""
        raise BadInput(f"{file}: {where}{': ' if where else ''}{first['msg']}{known}") from None


def cells(suite: Suite, file: Path) -> list[Cell]:
    """All runs, each experiment's seeds together; every one of them validated before the first begins.

    Raises:
        BadInput: an experiment, an override or a factor's key is wrong.
    """
    found = []
    for entry in suite.experiments:
        for seed in suite.seeds:
            # Another seed of training draws from other noise too; otherwise no seed would tell how much the noise does.
            overrides = (*suite.set, *entry.set, f"seed={seed}", f"sampling.seed={seed}")
            try:
                recipe = load_recipe(entry.experiment, overrides, suite.budget)
            except BadInput as error:
                raise BadInput(f"{file}: {entry.name}: {error}") from None
            levels = {name: _level(recipe, key, f"{file}: factors.{name}") for name, key in suite.factors.items()}
            words = (entry.experiment, *overrides, "--budget", suite.budget)
            found.append(Cell(entry=entry, seed=seed, words=words, levels=levels, id=f"{entry.name}-{seed}-{_digest(recipe)}"))
    return found


def _level(recipe: Recipe, key: str, where: str) -> str:
    value: Any = recipe.experiment.model_dump(mode="json")
    for name in key.split("."):
        if not isinstance(value, dict) or name not in value:
            raise BadInput(f"{where}: '{key}' is no key of the experiment {recipe.name}")
        value = value[name]
    return str(value)


def _digest(recipe: Recipe) -> str:
    whole = recipe.experiment.model_dump(mode="json", exclude={"track", "plugins"})
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:6]
