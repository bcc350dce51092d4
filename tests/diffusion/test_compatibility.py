"""What `check` refuses and warns of, and what it leaves alone."""

import pytest
from conftest import ROOT, Quick

from ddpm_lab.config.load import load_recipe
from ddpm_lab.runner import preflight as check
from registry.errors import BadInput


@pytest.fixture(autouse=True)
def _untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long it would take is not what these tests are about, and takes longest."""
    monkeypatch.setattr(check, "_expected_time", lambda *arguments: iter(()))


def _lines(*overrides: str) -> list[str]:
    small = ["dataset.size=8", "dataset.count=64", "backbone.width=8", "evaluate.features=[]"]
    recipe = load_recipe(str(ROOT / "experiments/smoke.yaml"), [*small, *overrides])
    return list(check.lines(recipe, "cpu"))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["schedule.zero_terminal_snr=true", "target=epsilon"], "target: 'epsilon' cannot tell x_0 where no signal is left"),
        (["schedule=flow", "target=epsilon"], "schedule 'flow' ends there; take v"),
        (["schedule=flow", "target=v", "sampling.grid=karras"], "sampling.grid: karras cannot space a path"),
        (["schedule={name: sigmoid, start: 1, end: 0}"], "schedule: start 1 is not below end 0"),
        (["schedule={name: edm, sigma_min: 90}"], "schedule: sigma_min 90 is not below sigma_max 80"),
        (["sampling.clip=1.5"], "sampling.clip"),
        (["sampling.guidance.interval=[3, 1]", "classes=true"], "from 3 to 1 is not an interval"),
        (["sampling.guidance={name: autoguidance, guide: nowhere}"], "no run at 'nowhere'"),
        (["sampling.guidance={name: autoguidance, guide: snapshots/1.safetensors}"], "guide the finished run only"),
    ],
)
def test_what_cannot_work_is_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(BadInput) as caught:
        _lines(*overrides)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["timesteps=200", "schedule={name: linear, scale: false}"], "terminal SNR 1.5"),
        (["timesteps=200", "schedule={name: linear, scale: false}"], "published for T = 1000, not for 200"),
        (["levels={name: lognormal, mean: 9}"], "beyond the path's ends"),
        (["variance=learned_range"], "sampler 'ddim' does not use it"),
        (["sampling.sampler={name: dpmpp_3m_sde, published: false}", "sampling.steps=4"], "of order 3 only after as many"),
        (["sampling.sampler=dpmpp_3m_sde"], "makes the log SNR jump"),
        (
            ["sampling.sampler=dpmpp_3m_sde", "schedule={name: cosine, zero_terminal_snr: true}", "target=v"],
            "makes the log SNR jump",
        ),
        (["schedule=laplace", "timesteps=1000"], "clean end has sigma / alpha 0.178"),
        (["train.ema.half_life=9999"], "9999 images are more than the run has, 3,200; its warm-up keeps it at 0.05"),
        (["backbone={name: edm2_unet, width: 16, head_channels: 16}"], "999 cycles along the noise labels"),
        (["weighting=snr", "target=x0"], "most of the loss is there"),
    ],
)
def test_what_is_probably_not_meant_is_warned_of(overrides: list[str], words: str) -> None:
    assert any(line.startswith("warning") and words in line for line in _lines(*overrides))


@pytest.mark.parametrize("grid", ["trailing", "clipped_log_snr", "quadratic"])
def test_a_grid_on_which_a_stochastic_sampler_works_is_not_warned_of(grid: str) -> None:
    small = ["sampling.sampler=dpmpp_3m_sde", "sampling.steps=15", "timesteps=1000", f"sampling.grid={grid}"]
    assert not [line for line in _lines(*small) if "makes the log SNR jump" in line]


@pytest.mark.parametrize("name", ["cosine_l1", "linear_huber", "prototype", "cosine_l1_classes"])
def test_the_recipes_of_the_house_are_not_warned_of(name: str, quick: Quick) -> None:
    from ddpm_lab.diffusion.build import build_model, build_objective
    from ddpm_lab.diffusion.compatibility import require_fit, warnings
    from ddpm_lab.diffusion.model import DataShape
    from ddpm_lab.runtime.device import pick_device

    experiment = load_recipe(name).experiment
    shape = DataShape("fashion_mnist", (1, 28, 28), tuple("abcdefghij"), 0.7, "")
    model = build_model(experiment, shape, pick_device("cpu"))
    objective = build_objective(experiment, shape, model)
    require_fit(experiment, model, objective)
    assert list(warnings(experiment, model, objective, shape.std)) == []
