"""From files and overrides to one validated Experiment, remembering who wrote what."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pydantic
import yaml

from ddpm_lab.config import named_files
from ddpm_lab.config.layers import Layers
from ddpm_lab.config.named_files import BUDGETS, EXPERIMENTS
from ddpm_lab.config.overrides import COMMAND_LINE, layer_of
from ddpm_lab.config.schema import Conflict, Experiment
from ddpm_lab.config.yaml_reader import Tree, describe, read_mapping
from ddpm_lab.runtime.redaction import discreet, restored
from ddpm_lab.storage import shipped
from ddpm_lab.storage.names import id_of
from ddpm_lab.storage.run_folder import RESOLVED, recorded_hash
from registry.beside import Plugin
from registry.choice import Choice
from registry.errors import BadInput, did_you_mean
from registry.plugins import load_file, load_installed
from registry.problems import MISSING, Problem, first_problem
from registry.registry import OptionError

DEFAULT_BUDGET = "cpu"


@dataclass(frozen=True)
class Recipe:
    """An experiment, its name, and the plugins that it needs."""

    name: str
    experiment: Experiment
    plugins: tuple[Plugin, ...]


def find(name: str) -> Path:
    """The file of an experiment: a path, a run's folder, a name in ./experiments or of those that the lab carries, or the name
    of a model that ships.

    Raises:
        BadInput: there is none; the nearest names are given.
    """
    record = Path(name) / RESOLVED
    if named_files.is_file(record):
        return record
    if name in (models := shipped.models()) and name not in named_files.known(EXPERIMENTS):
        return models[name] / RESOLVED
    return named_files.find("experiment", name, EXPERIMENTS)


def load_recipe(
    name: str, overrides: Iterable[str] = (), budget: str | None = None, settings: Tree | None = None,
    caller: str = COMMAND_LINE,
) -> Recipe:  # fmt: skip
    """Read an experiment with all that it extends, its budget and the overrides `key=value`, and validate it.

    Layers, the later ones winning: the budget, the chain of `extends` from its root, the overrides, `settings` as a file would
    have them. So a budget fills in what the recipe itself leaves open. Messages name `caller` where one of the last two is
    wrong.

    Raises:
        BadInput: anything is wrong, in one line that names the file, the key, the value and the remedy.
    """
    file = find(name)
    chain = _chain(file)
    # A resolved experiment already holds its budget; another one would change nothing in it, silently.
    whole = chain[-1][1].get("budget")
    if whole is not None and budget not in (None, whole):
        raise BadInput(f"{file}: budget: this experiment has the budget '{whole}' built in; it cannot take '{budget}'")
    tree = Layers()
    tree.merge(_defaults(Experiment), "default")
    if whole is None and (found := _budget_file(chain, budget)):
        tree.merge(read_mapping(found), str(found))
        tree.values["budget"] = found.stem
    for origin, layer in reversed(chain):
        tree.merge(layer, str(origin))
    tree.merge(layer_of(overrides, caller), caller)
    tree.merge(settings or {}, caller)
    plugins = _load_plugins(tree, file, caller)
    return Recipe(_name_of(file), _validate(tree, str(file)), plugins)


def _name_of(file: Path) -> str:
    """That of the file; of a record that of the exported folder, or of the folder that a run's folder lies in."""
    if file.name != RESOLVED:
        return file.stem
    folder = file.resolve().parent  # perhaps by way of `results/latest`
    return folder.name if id_of(folder.name) is None else folder.parent.name


def dump(experiment: Experiment) -> str:
    """The experiment as YAML, complete, and fit to be shown: the home folder is `~`."""
    return yaml.safe_dump(discreet(experiment.model_dump(mode="json")), sort_keys=False, allow_unicode=True)


def _chain(file: Path) -> list[tuple[Path, Tree]]:
    """The file and all that it extends, itself first."""
    chain: list[tuple[Path, Tree]] = []
    while True:
        if any(file.resolve() == seen.resolve() for seen, _ in chain):
            circle = " -> ".join(str(seen) for seen, _ in [*chain, (file, {})])
            raise BadInput(f"{chain[-1][0]}: extends: a circle: {circle}; take one `extends` out")
        layer = read_mapping(file)
        if file.name == RESOLVED:
            layer = restored(layer)  # parts of plugins need not know what `~` is
        parent = layer.pop("extends", None)
        chain.append((file, layer))
        if parent is None:
            return chain
        if file.name == RESOLVED:
            raise BadInput(f"{file}: extends: the record of a run stands alone; take `extends` out, or name the file otherwise")
        if not isinstance(parent, str):
            raise BadInput(f"{file}: extends: the name or path of one experiment was expected, not {describe(parent)}")
        file = _parent(parent, file)


def _parent(name: str, child: Path) -> Path:
    beside = child.parent / (name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if named_files.is_file(beside):
        return beside
    try:
        return find(name)
    except BadInput as error:
        raise BadInput(f"{child}: extends: {error}") from None


def _budget_file(chain: list[tuple[Path, Tree]], budget: str | None) -> Path | None:
    ours, folders = named_files.carried(EXPERIMENTS), dict[Path, None]()
    for file, _ in chain:
        if file.name != RESOLVED:  # and the user's own budget wins for an experiment that the lab carries
            folders |= dict.fromkeys((BUDGETS, ours / "budgets") if file.parent == ours else (file.parent / "budgets",))
    if budget is not None:
        folders |= dict.fromkeys((BUDGETS, named_files.carried(BUDGETS)))
    for folder in folders:
        if named_files.is_file(file := folder / f"{budget or DEFAULT_BUDGET}.yaml"):
            return file
    if budget is None:
        return None  # an experiment on its own, which says all itself
    known = {file.stem for folder in folders for file in folder.glob("*.yaml")}
    raise BadInput(f"no budget named '{budget}'; {did_you_mean(budget, known)}")


def _load_plugins(tree: Layers, file: Path, caller: str) -> tuple[Plugin, ...]:
    load_installed()
    named = tree.values.get("plugins") or []
    if not isinstance(named, list) or not all(isinstance(item, str) for item in named):
        raise BadInput(f"{tree.origin_of('plugins', str(file))}: plugins: a list of paths was expected, not {named!r}")
    origin = tree.origin_of("plugins", str(file))
    # A path in a file is relative to that file; one of a command or a call, to where the user stands.
    folder = Path() if origin == caller else Path(origin).parent
    paths = tuple(_plugin(item, folder, origin) for item in named)
    plugins = list[Plugin]()
    for path in paths:
        try:
            plugins.append(load_file(path, recorded_hash if Path(origin).name == RESOLVED else None))
        except BadInput as error:
            raise BadInput(f"{origin}: plugins: {error}") from error
    if named:
        tree.values["plugins"] = [str(path) for path in paths]
    return tuple(plugins)


def _plugin(name: str, folder: Path, origin: str) -> Path:
    """The file of a plugin; the record of a run names copies in its own folder only, which nobody else chose to run."""
    try:
        path = (folder / Path(name).expanduser()).resolve()
    except (ValueError, RuntimeError, OSError) as error:  # a zero byte, a user who is not known, links in a circle
        raise BadInput(f"{origin}: plugins: '{name}' is no path ({error})") from None
    if Path(origin).name == RESOLVED and not path.is_relative_to(folder.resolve()):
        raise BadInput(f"{origin}: plugins: '{name}' is outside of the run's folder; a run's plugins are the copies in it")
    return path


def _validate(tree: Layers, file: str) -> Experiment:
    try:
        return Experiment.model_validate(tree.values)
    except pydantic.ValidationError as error:
        key, text, cause = first_problem(error, Experiment)
        if isinstance(cause, OptionError):
            key = f"{key}.{cause.key}"
        elif isinstance(cause, BadInput) and str(cause).startswith("no "):
            key = f"{key}.name"
        elif text == MISSING:
            text += ", or start the file with `extends: base`"
        origin = tree.last_origin_of(cause.keys if isinstance(cause, Conflict) else [key], file)
        raise BadInput(f"{origin}: {Problem(key, text, cause)}") from None


def _defaults(section: type[pydantic.BaseModel]) -> Tree:
    """The schema's own defaults, as the lowest layer, so that an override may set one option of a default part."""
    found: Tree = {}
    for key, field in section.model_fields.items():
        if isinstance(field.default, Choice):
            found[key] = field.default.flat()
        elif isinstance(field.default, pydantic.BaseModel):
            found[key] = field.default.model_dump(mode="json")
        elif inspect.isclass(field.annotation) and issubclass(field.annotation, pydantic.BaseModel):
            found[key] = _defaults(field.annotation)
    return {key: value for key, value in found.items() if value}
