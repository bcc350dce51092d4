"""Any objective with any backbone, target, path, loss ...: a pairwise-covering set of recipes trains and samples."""

from typing import Any

import pytest
import torch
from allpairspy import AllPairs

from ddpm_lab.config.load import load_recipe
from ddpm_lab.diffusion.sampling import ImageSampler
from ddpm_lab.runner.prepare import prepare
from registry.errors import BadInput
from registry.plugins import REGISTRIES

OBJECTIVES, SAMPLERS, BACKBONES = (REGISTRIES[name] for name in ("objectives", "samplers", "backbones"))
CHOICES: dict[str, list[Any]] = {
    "objective": [part.name for part in OBJECTIVES], "sampling.sampler": [part.name for part in SAMPLERS],
    "backbone": [part.name for part in BACKBONES], "target": ["v", "x0", "velocity", "edm"],
    "schedule": ["cosine", "flow", "edm"], "loss": ["l1", "l2"], "classes": [True, False], "self_conditioning": [True, False],
    "coupling": ["independent", "optimal_transport"], "loss_space": [None, "v"], "train.accumulate": [1, 2],
}  # fmt: skip


def _served(row: list[Any]) -> bool:
    """Whether a sampler serves the objective; what is refused, and why, is tested below."""
    chosen = dict(zip(CHOICES, row, strict=False))
    objective = OBJECTIVES.part(chosen["objective"]).traits
    sampler = chosen.get("sampling.sampler")
    if sampler is not None and not SAMPLERS.part(sampler).traits.takes & objective.network:
        return False
    dependent, noisy = chosen.get("coupling") == "optimal_transport", _stochastic(sampler or "ddim")
    return not (dependent and noisy) and not (chosen.get("loss_space") and not objective.weighting)


def _stochastic(sampler: str) -> bool:
    return sampler in {"ancestral", "consistency", "dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_sde", "euler_ancestral"}


RECIPES = [dict(zip(CHOICES, row, strict=True)) for row in AllPairs(list(CHOICES.values()), filter_func=_served)]


def _few(recipe: dict[str, Any]) -> list[str]:
    backbone = {"name": recipe["backbone"], **BACKBONES.part(recipe["backbone"]).traits.trial}
    changed = recipe | {
        "backbone": backbone, "dataset": {"size": 8, "count": 16}, "timesteps": 50, "sampling.steps": 3, "train.images": 16,
        "train.batch": 8, "sampling.grid": "trailing", "sampling.clip": False,
    }  # fmt: skip
    return [f"{key}={'null' if value is None else value}" for key, value in changed.items()]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: "-".join(str(value) for value in recipe.values()))
def test_an_objective_trains_and_its_network_is_sampled(recipe: dict[str, Any]) -> None:
    experiment = load_recipe("smoke", _few(recipe)).experiment
    found = prepare(experiment, torch.device("cpu"), lambda: 1)
    before = [parameter.detach().clone() for parameter in found.trainer.network.parameters()]
    for step in range(2):
        found.trainer.step(found.trainer.batch(step))
    moved = [not torch.equal(a, b) for a, b in zip(before, found.trainer.network.parameters(), strict=True)]
    assert any(moved)  # not all: layers that begin at 0 hold back those before them
    sampler: ImageSampler = found.sampler(found.trainer.sampling_network("raw"))
    ((_, images),) = sampler.images(4, 0, 4, sampler.labels(4))
    assert images.shape == (4, 1, 8, 8)


@pytest.mark.parametrize("objective", [part.name for part in OBJECTIVES])
@pytest.mark.parametrize("coupling", ["independent", "optimal_transport"])
def test_points_in_the_plane_are_learnt_by_any_objective_and_coupling(objective: str, coupling: str) -> None:
    traits = OBJECTIVES.part(objective).traits.network
    sampler = min((part.name for part in SAMPLERS if part.traits.takes & traits), key=_stochastic)
    if coupling != "independent" and _stochastic(sampler):
        coupling = "independent"  # its only sampler adds noise, which a coupling does not allow
    changed = {"objective": objective, "coupling": coupling, "sampling.sampler": sampler, "train.images": 64, "train.batch": 32,
               "dataset.count": 64, "sampling.steps": 4, "backbone": "{name: mlp, width: 16, depth: 1}"}  # fmt: skip
    experiment = load_recipe("toy2d", [f"{key}={value}" for key, value in changed.items()]).experiment
    found = prepare(experiment, torch.device("cpu"), lambda: 1)
    for step in range(2):
        assert found.trainer.step(found.trainer.batch(step)) is not None
    ((_, points),) = found.sampler(found.trainer.sampling_network("ema")).images(4, 0, 4, None)
    assert points.shape == (4, 2, 1, 1)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["objective=mean_flow", "sampling.sampler=consistency"], "samples networks of kind consistency"),
        (["sampling.sampler=flow_map"], "take ancestral or"),
        (["objective=consistency", "sampling.sampler=consistency", "weighting=p2"], "weighting: objective 'consistency'"),
        (["objective=mean_flow", "loss_space=v"], "loss_space: objective 'mean_flow'"),
        (["objective=mean_flow", "variance=learned_range"], "variance: objective 'mean_flow'"),
        (["coupling=optimal_transport", "sampling.sampler=ancestral"], "'ancestral' adds noise on the way"),
        (["coupling=optimal_transport", "sampling.sampler={name: heun, churn: 10}"], "'heun' adds noise on the way"),
        (["coupling=optimal_transport", "variance=learned_range"], "gives no bound"),
    ],
)
def test_what_does_not_serve_is_refused_with_a_reason(overrides: list[str], words: str) -> None:
    experiment = load_recipe("smoke", overrides).experiment
    with pytest.raises(BadInput, match=words.replace("(", r"\(")):
        prepare(experiment, torch.device("cpu"), lambda: 1)
