"""The command that a recipe came from: it makes the same recipe again."""

import shlex
from pathlib import Path

import pytest

from ddpm_lab.config.command import command_of
from ddpm_lab.config.load import Recipe, load_recipe


def _read(command: str) -> Recipe:
    program, run, name, option, budget, *words = shlex.split(command)
    assert (program, run, option) == ("ddpm-lab", "run", "--budget")
    return load_recipe(name, words, budget)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["seed=3", "sampling.seed=3", "train.rate.peak=1e-4", "classes=true"],
        ["loss={name: huber, delta: 0.25}", "sampling.sampler={name: ddim, eta: 0.5}", "train.ema=null"],
        ["train.ema=[{half_life: 1000}, {name: power, std: 0.1}]", "evaluate.features=[]", "dataset={name: shapes, size: 8}"],
        ["train.start={run: results/x, weights: raw}", "sampling.guidance.rescale=0.5", "backbone=mlp", "backbone.width=8"],
    ],
)
def test_it_makes_the_same_recipe(overrides: list[str]) -> None:
    recipe = load_recipe("smoke", [*overrides, "track=none"], "gpu")
    command = command_of(recipe)
    assert command is not None
    assert _read(command).experiment == recipe.experiment
    assert ("seed=3" in command) == ("seed=3" in overrides)


def test_there_is_none_where_overrides_alone_do_not_make_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: cosine_l2\n")
    assert command_of(load_recipe(str(tmp_path / "mine.yaml"))) is None
    (tmp_path / "mine.py").write_text("# a plugin\n")
    assert command_of(load_recipe("smoke", [f"plugins=[{tmp_path / 'mine.py'}]"])) is None
