"""Targets: inverses, diffusers' velocity, and the conversion of weights."""

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from ddpm_lab.diffusion import Diffusion
from registry.path import NoisePath
from registry.plugins import SHELVES
from registry.schedules.cosine import cosine
from registry.targets import TARGETS, Target

NAMES = [part.name for part in TARGETS]


def _pair() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return tuple(torch.randn(64, 1, 4, 4, generator=rng, dtype=torch.float64) for _ in range(2))  # type: ignore[return-value]


def _point(path: NoisePath) -> tuple[Tensor, Tensor]:
    alpha, sigma = path.at(torch.linspace(0, path.steps - 1, 64))
    return alpha[:, None, None, None], sigma[:, None, None, None]


@pytest.mark.parametrize("kind", ["variance_preserving", "flow", "variance_exploding"])
@pytest.mark.parametrize("name", NAMES)
def test_split_inverts_of_on_every_path(name: str, kind: str) -> None:
    target: Target = TARGETS.configure(name, {})()
    (x0, eps), (alpha, sigma) = _pair(), _point(NoisePath(torch.linspace(0.02, 1.55, 50), kind))  # type: ignore[arg-type]
    back = target.split(target.of(x0, eps, alpha, sigma), alpha * x0 + sigma * eps, alpha, sigma)
    torch.testing.assert_close(back, (x0, eps), rtol=1e-9, atol=1e-9)


def test_v_is_the_velocity_of_diffusers() -> None:
    scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    x0, eps = (tensor.float() for tensor in _pair())
    steps = torch.linspace(0, 999, 64).long()
    alpha, sigma = (value[:, None, None, None].float() for value in cosine(1000).at(steps))
    ours = TARGETS.configure("v", {})().of(x0, eps, alpha, sigma)
    torch.testing.assert_close(ours, scheduler.get_velocity(x0, eps, steps), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_in_x0_space_weighs_the_error_of_x0_whatever_the_target(name: str) -> None:
    class InX0:
        space = "x0"

        def __call__(self, log_snr: Tensor, slope: Tensor) -> Tensor:
            return torch.full_like(log_snr, 3.0)

    target: Target = TARGETS.configure(name, {})()
    path = NoisePath(torch.linspace(0.1, 1.4, 64), "variance_preserving")
    (x0, eps), (alpha, sigma) = _pair(), _point(path)
    x_t, truth = alpha * x0 + sigma * eps, target.of(x0, eps, alpha, sigma)
    wrong = truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight = Diffusion(path, target).weight(InX0(), torch.linspace(0, 63, 64)).double()  # type: ignore[arg-type]
    error_of_x0 = (target.split(wrong, x_t, alpha, sigma)[0] - x0).square().sum(dim=(1, 2, 3))
    torch.testing.assert_close(weight * (wrong - truth).square().sum(dim=(1, 2, 3)), 3 * error_of_x0, rtol=1e-5, atol=1e-9)


def test_the_default_condition_is_the_plain_input_and_the_label_as_it_is() -> None:
    alpha, sigma = _point(cosine(100))
    scale, label = TARGETS.configure("v", {})().condition(alpha, sigma, torch.arange(64.0))
    assert bool((scale == 1).all())
    assert torch.equal(label, torch.arange(64.0))


def test_the_constant_weighting_is_one() -> None:
    weighting = SHELVES["weightings"].configure("constant", {})()
    assert weighting(torch.randn(5), torch.randn(5)).tolist() == [1.0] * 5
