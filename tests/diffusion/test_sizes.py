"""`check` warns where a target is absurdly large on a path, or what the network is shown: for every pair of them."""

import pytest
import torch

from ddpm_lab.config.load import load_recipe
from ddpm_lab.diffusion.compatibility import LARGE, WIDE, warnings
from ddpm_lab.diffusion.model import Model, Objective
from ddpm_lab.diffusion.process import Diffusion
from registry.levels import LEVELS
from registry.losses import LOSSES
from registry.objectives.denoising import denoising
from registry.schedules import SCHEDULES
from registry.targets import TARGETS
from registry.variances import VARIANCES
from registry.weightings import WEIGHTINGS

STEPS = 200


def _lines(schedule: str, target: str, std: float) -> list[str]:
    path = SCHEDULES.configure(schedule, {})(STEPS)
    experiment = load_recipe("smoke", [f"schedule={schedule}", f"target={target}", f"timesteps={STEPS}"]).experiment
    diffusion = Diffusion(path, TARGETS.configure(target, {})(std))
    model = Model(diffusion, torch.nn.Identity(), VARIANCES.configure("fixed_small", {})(), None)
    weighting = WEIGHTINGS.configure("constant", {})(std)
    objective = Objective(LEVELS.configure("uniform", {})(path), LOSSES.configure("l2", {}), weighting, denoising)
    return [line for line in warnings(experiment, model, objective, std) if line.startswith(f"target '{target}'")]


@pytest.mark.parametrize("target", [part.name for part in TARGETS])
@pytest.mark.parametrize("schedule", [part.name for part in SCHEDULES])
def test_what_is_measured_on_images_and_noise_is_what_is_warned_of(schedule: str, target: str) -> None:
    std, count = 0.6, 4000
    rng = torch.Generator().manual_seed(0)
    x0, eps = std * torch.randn(count, generator=rng).double(), torch.randn(count, generator=rng).double()
    made, path = TARGETS.configure(target, {})(std), SCHEDULES.configure(schedule, {})(STEPS)
    given, shown, of_x0, of_eps = [], [], [], []
    for level in torch.arange(0, STEPS, dtype=torch.float64):
        alpha, sigma = path.at(level)
        x_t, prediction = alpha * x0 + sigma * eps, made.of(x0, eps, alpha, sigma)
        scale, _ = made.condition(alpha, sigma, level[None])
        wrong = made.split(2 * prediction, x_t, alpha, sigma)  # an error as large as the target itself
        given.append(prediction.square().mean().sqrt())
        shown.append((scale * x_t).square().mean().sqrt())
        of_x0.append((wrong[0] - x0).square().mean().sqrt() / std)
        of_eps.append((wrong[1] - eps).square().mean().sqrt())
    lines = _lines(schedule, target, std)
    for what, limit, sizes in (
        ("has to predict", LARGE, given),
        ("is shown", LARGE, shown),
        ("of the image", WIDE, of_x0),
        ("of the noise", WIDE, of_eps),
    ):
        assert (max(sizes) > limit) == any(what in line for line in lines), (what, max(sizes), lines)


def test_v_where_the_variance_explodes_says_how_large_and_where() -> None:
    first, second = _lines("edm", "v", 0.7)
    assert first.startswith("target 'v' on schedule 'edm': the network has to predict values of size 56 at level 199")
    assert "is shown values of size 80 at level 199" in second
    assert _lines("edm", "edm", 0.7) == []


def test_the_size_is_that_of_the_data_and_goes_by_no_name() -> None:
    (only_shown,) = _lines("edm", "v", 0.05)  # 80 times 0.05 is 4
    assert "is shown" in only_shown
