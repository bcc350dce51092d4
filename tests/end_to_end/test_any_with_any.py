"""Any part with any: a pairwise-covering set of recipes trains and draws, or is refused with a reason. Nothing in between."""

from typing import Any

import pytest
import torch
from allpairspy import AllPairs

from ddpm_lab.config.load import load_recipe
from ddpm_lab.config.schema import Experiment
from ddpm_lab.diffusion.build import build_data, build_model, build_objective, build_procedure
from ddpm_lab.diffusion.compatibility import require_fit, warnings
from ddpm_lab.diffusion.model import DataShape, Model
from ddpm_lab.diffusion.sampling import ImageSampler
from ddpm_lab.inference.trained_run import guides
from ddpm_lab.training.trainer import Trainer
from registry.backbones import BACKBONES
from registry.errors import BadInput
from registry.plugins import REGISTRIES
from registry.samplers import SAMPLERS

TINY = {part.name: {"name": part.name, **part.traits.trial} for part in BACKBONES}
TINY["adm_unet"]["dropout"] = 0.1
# autoguidance needs a second run: tests/cli/test_cli.py draws with it.
LEFT_OUT = {"autoguidance", "fashion_mnist", "image_folder"}
# Samplers of networks that other objectives train: test_any_objective has those.
LEFT_OUT |= {part.name for part in SAMPLERS if "denoiser" not in part.traits.takes}


def _names(category: str) -> list[str]:
    return [part.name for part in REGISTRIES[category] if part.name not in LEFT_OUT]


CHOICES: dict[str, list[Any]] = {
    "sampling.sampler": _names("samplers"), "schedule": [*_names("schedules"), "zero_terminal_snr"],
    "weighting": _names("weightings"), "loss": _names("losses"), "target": _names("targets"), "levels": _names("levels"),
    "sampling.grid": _names("grids"), "variance": _names("variances"), "backbone": list(TINY), "classes": [True, False],
    "sampling.clip": [True, False, 0.9], "sampling.guidance": [1.0, 2.0],
}  # fmt: skip
RECIPES = [dict(zip(CHOICES, row, strict=True)) for row in AllPairs(list(CHOICES.values()))]


def _experiment(recipe: dict[str, Any]) -> Experiment:
    schedule = (
        {"name": "cosine", "zero_terminal_snr": True} if recipe["schedule"] == "zero_terminal_snr" else recipe["schedule"]
    )
    changed = recipe | {
        "schedule": schedule, "backbone": TINY[recipe["backbone"]], "dataset": {"size": 8, "count": 16}, "timesteps": 50,
        "sampling.guidance": {"scale": recipe["sampling.guidance"]}, "sampling.steps": 6, "train.images": 16, "train.batch": 8,
    }  # fmt: skip
    return load_recipe("smoke", [f"{key}={value}" for key, value in changed.items()]).experiment


def _try(recipe: dict[str, Any]) -> torch.Tensor:
    experiment = _experiment(recipe)
    data = build_data(experiment)
    shape, cpu = DataShape.of(data), torch.device("cpu")
    model: Model = build_model(experiment, shape, cpu)
    objective = build_objective(experiment, shape, model)
    require_fit(experiment, model, objective)
    procedure = build_procedure(experiment.sampling, model, guides(model, shape, None))
    assert all(isinstance(line, str) for line in warnings(experiment, model, objective, shape.std))
    trainer = Trainer(experiment, model, objective, data.train, "fp32")
    for step in range(2):
        trainer.step(trainer.batch(step))
    sampler = ImageSampler(model, trainer.sampling_network(experiment.weights), procedure, shape.image_shape, "fp32")
    ((_, images),) = sampler.images(4, 0, 4, sampler.labels(4))  # raises where they are not finite
    return images


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: "-".join(str(value) for value in recipe.values()))
def test_a_recipe_works_or_is_refused(recipe: dict[str, Any]) -> None:
    try:
        images = _try(recipe)
    except BadInput as error:
        said = str(error)
        assert "\n" not in said
        singular = recipe["schedule"] in ("flow", "zero_terminal_snr")
        reasons = {
            "target: 'epsilon' cannot tell x_0": recipe["target"] == "epsilon" and singular,
            "cannot space a path that ends in pure noise": recipe["sampling.grid"] in ("karras", "log_snr") and singular,
            "guidance needs a network that knows classes": recipe["sampling.guidance"] != 1 and not recipe["classes"],
            "is infinite at level": singular,
        }
        assert any(true and words in said for words, true in reasons.items()), said
        return
    assert images.shape == (4, 1, 8, 8)
    assert images.dtype == torch.uint8


def test_every_pair_of_parts_meets_in_some_recipe() -> None:
    for one, first in CHOICES.items():
        for other, second in CHOICES.items():
            if one < other:
                assert {(a, b) for a in map(str, first) for b in map(str, second)} == {
                    (str(recipe[one]), str(recipe[other])) for recipe in RECIPES
                }
