"""The command that trains a run again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

from ddpm_lab.config.layers import differences
from ddpm_lab.config.load import Recipe, load_recipe
from ddpm_lab.config.schema import PART_KEYS
from ddpm_lab.config.yaml_reader import Tree
from ddpm_lab.runtime.redaction import discreet
from registry.errors import BadInput


def command_of(recipe: Recipe) -> str | None:
    """`ddpm-lab run flow --budget cpu seed=1`: the experiment of that name, with what the recipe has instead.

    None where there is no such experiment, or it needs more than overrides: plugins, or another budget than those known.
    """
    if recipe.plugins:
        return None
    try:
        words = list(_overrides(load_recipe(recipe.name, budget=recipe.experiment.budget), recipe))
        if _whole(load_recipe(recipe.name, words, recipe.experiment.budget)) != _whole(recipe):
            return None
    except BadInput:
        return None
    budget = ["--budget", recipe.experiment.budget] if recipe.experiment.budget else []
    return discreet(shlex.join(["ddpm-lab", "run", recipe.name, *budget, *words]))


def _overrides(plain: Recipe, recipe: Recipe) -> Iterator[str]:
    for key, _, new in differences(_whole(plain), _whole(recipe)):
        part = key.removesuffix(".name")
        if part in PART_KEYS:  # another part, whose options go with it
            key, new = part, _at(_whole(recipe), part)
        yield f"{key}={new if isinstance(new, str) else json.dumps(new)}"


def _whole(recipe: Recipe) -> Tree:
    """All that weights and values depend on."""
    return recipe.experiment.model_dump(mode="json", exclude={"track"})


def _at(tree: Tree, dotted: str) -> object:
    for key in dotted.split("."):
        tree = tree[key]
    return tree
