"""A suite: a YAML file that names experiments, seeds and what is to be compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ddpm_lab.config.layers import Difference, differences
from ddpm_lab.config.load import Recipe, load_recipe
from ddpm_lab.config.overrides import of_seed
from ddpm_lab.config.yaml_reader import read_mapping
from ddpm_lab.inference.curve_points import require_over_steps
from ddpm_lab.inference.starting_weights import digest_of
from ddpm_lab.storage.names import require_experiment_name
from registry.errors import BadInput
from registry.metrics import METRICS
from registry.options import Count
from registry.problems import first_problem

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

    samplers: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
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
    # The first one ranks; less of it has to be better.
    metrics: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = (METRICS.main,)
    curve: Curve | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Suite:
        names = [entry.name for entry in self.experiments]
        for kind, values in (("experiments", names), ("seeds", self.seeds)):
            if len(set(values)) < len(values):
                raise ValueError(f"{kind}: one is there twice: {', '.join(map(str, values))}")
        words = [word for entry in self.experiments for word in (*self.set, *entry.set)]
        if seeds := [word for word in words if word.startswith(("seed=", "sampling.seed="))]:
            raise ValueError(f"set: {seeds[0]}: seeds are named under `seeds`")
        return self


class Cell(pydantic.BaseModel):
    """One run of a suite: checked, and with the words that start it."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)
    entry: Entry
    seed: int
    words: tuple[str, ...]
    levels: Mapping[str, str]  # of each factor
    id: str  # changes with whatever the run depends on


def read(file: Path) -> Suite:
    """The suite.

    Raises:
        BadInput: the file cannot be read, or a key or value is wrong.
    """
    try:
        return Suite.model_validate(read_mapping(file))
    except pydantic.ValidationError as error:
        raise BadInput(f"{file}: {first_problem(error, Suite)}") from None


def cells(suite: Suite, file: Path) -> list[Cell]:
    """All runs, each experiment's seeds together; every one of them validated before the first begins.

    Raises:
        BadInput: an experiment, an override or a factor's key is wrong.
    """
    found, recipes = [], dict[str, Recipe]()
    for entry in suite.experiments:
        for seed in suite.seeds:
            measured = f"evaluate.metrics=[{', '.join(suite.metrics)}]"  # nobody waits for the others
            overrides = (measured, *suite.set, *entry.set, *of_seed(seed))
            try:
                recipe = load_recipe(entry.experiment, overrides, suite.budget)
                require_experiment_name(recipe.name)
            except BadInput as error:
                raise BadInput(f"{file}: {entry.name}: {error}") from None
            recipes.setdefault(entry.name, recipe)
            _require_curve(suite, recipe, f"{file}: curve")
            levels = {name: _level(recipe, key, f"{file}: factors.{name}") for name, key in suite.factors.items()}
            words = (entry.experiment, *overrides, "--budget", suite.budget)
            found.append(Cell(entry=entry, seed=seed, words=words, levels=levels, id=f"{entry.name}-{seed}-{digest(recipe)}"))
    if METRICS.part(suite.metrics[0]).traits.higher:
        raise BadInput(f"{file}: metrics: {suite.metrics[0]} comes first, which ranks; name one of which less is better")
    _require_comparable(suite, file, recipes, {cell.entry.name: cell.levels for cell in found})
    return found


def _require_comparable(
    suite: Suite, file: Path, recipes: Mapping[str, Recipe], levels: Mapping[str, Mapping[str, str]]
) -> None:
    """All are measured alike; with factors, nothing else differs, and no two experiments are the same cell."""
    dumps = {
        name: recipe.experiment.model_dump(mode="json", exclude={"plugins", "track", "budget"})
        for name, recipe in recipes.items()
    }
    (first, ours), *others = dumps.items()
    for name, theirs in others:
        for part in ("dataset", "evaluate"):
            if found := next(differences(ours[part], theirs[part], part), None):
                raise BadInput(f"{file}: {_differs(name, first, found)}; a suite compares what is measured alike")
        rest = differences(_without(ours, suite.factors), _without(theirs, suite.factors))
        if suite.factors and (found := next(rest, None)):
            raise BadInput(f"{file}: {_differs(name, first, found)}, which is no factor; name its key under `factors`")
    cells = [tuple(one.items()) for one in levels.values()]
    if suite.factors and len(set(cells)) < len(cells):
        raise BadInput(f"{file}: factors: two experiments have the same levels of all; name the key in which they differ")


def _differs(name: str, first: str, found: Difference) -> str:
    return f"{name} has another {found.key} than {first} ({found.new!r}, not {found.old!r})"


def _without(tree: Mapping[str, Any], factors: Mapping[str, str]) -> dict[str, Any]:
    """The experiment without what the factors vary: of `loss.name` all of `loss`, whose options belong to the name."""
    kept: dict[str, Any] = json.loads(json.dumps(tree))
    for key in factors.values():
        *above, last = key.removesuffix(".name").split(".")
        place = kept
        for name in above:
            place = place[name]
        del place[last]
    return kept


def _require_curve(suite: Suite, recipe: Recipe, where: str) -> None:
    if suite.curve is None:
        return
    try:
        require_over_steps(recipe.experiment, suite.curve.samplers, suite.curve.at)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None


def _level(recipe: Recipe, key: str, where: str) -> str:
    value: Any = recipe.experiment.model_dump(mode="json")
    for name in key.split("."):
        if not isinstance(value, dict) or name not in value:
            raise BadInput(f"{where}: '{key}' is no key of the experiment {recipe.name}")
        value = value[name]
    return str(value)


def digest(recipe: Recipe) -> str:
    """Six hexadecimal digits that change with whatever a run of it depends on; of `train.start` the weights themselves."""
    whole = recipe.experiment.model_dump(mode="json", exclude={"track", "plugins"})
    if (start := recipe.experiment.train.start) and (weights := digest_of(start)):
        whole["train"]["start"] = weights
    if recipe.plugins:
        whole["plugins"] = [plugin.digest for plugin in recipe.plugins]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:6]
