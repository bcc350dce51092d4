"""Targets: inverses, diffusers' velocity, and the conversion of weights."""

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm_lab.diffusion.process import Diffusion
from registry.path import NoisePath
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
@settings(max_examples=30, derandomize=True, database=None, deadline=None)
@given(knots=st.lists(st.floats(0.01, 1.56), min_size=2, max_size=8, unique=True), std=st.floats(0.1, 3), at=st.floats(0, 1))
def test_split_inverts_of_on_every_path(name: str, kind: str, knots: list[float], std: float, at: float) -> None:
    knots.sort()
    path = NoisePath(torch.tensor(knots, dtype=torch.float64), kind)  # type: ignore[arg-type]
    target: Target = TARGETS.configure(name, {})(std)
    (x0, eps), (alpha, sigma) = _pair(), path.at(torch.tensor(at * (len(knots) - 1)))
    back = target.split(target.of(x0, eps, alpha, sigma), alpha * x0 + sigma * eps, alpha, sigma)
    torch.testing.assert_close(back, (x0, eps), rtol=1e-8, atol=1e-8)


def test_edm_preconditions_as_its_table_has_it() -> None:
    """Karras et al. 2022, table 1, on their own path: alpha 1."""
    std, sigma = 0.5, torch.tensor([0.002, 0.3, 5.0, 80.0], dtype=torch.float64)[:, None, None, None]
    alpha, target = torch.ones_like(sigma), TARGETS.configure("edm", {})(std)
    c_in, c_noise = target.condition(alpha, sigma, torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(c_in, 1 / (sigma**2 + std**2).sqrt())
    torch.testing.assert_close(c_noise, sigma.flatten().log() / 4)
    raw, x_t = torch.randn(2, 4, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    c_skip, c_out = std**2 / (sigma**2 + std**2), sigma * std / (sigma**2 + std**2).sqrt()
    torch.testing.assert_close(target.split(raw, x_t, alpha, sigma)[0], c_skip * x_t + c_out * raw)


@pytest.mark.parametrize("kind", ["variance_preserving", "flow", "variance_exploding"])
def test_what_the_edm_network_sees_and_learns_has_unit_variance_on_every_path(kind: str) -> None:
    rng, std = torch.Generator().manual_seed(0), 0.7
    x0, eps = (torch.randn(64, 1, 40, 40, generator=rng, dtype=torch.float64) for _ in range(2))
    alpha, sigma = _point(NoisePath(torch.linspace(0.02, 1.55, 50), kind))  # type: ignore[arg-type]
    target = TARGETS.configure("edm", {})(std)
    seen = target.condition(alpha, sigma, torch.zeros(64))[0] * (alpha * std * x0 + sigma * eps)
    for image in (seen, target.of(std * x0, eps, alpha, sigma)):
        assert float((image.flatten(1).std(dim=1) - 1).abs().max()) < 0.08


def test_the_velocity_is_the_derivative_of_the_straight_path() -> None:
    (x0, eps), t = _pair(), torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.functional.jacobian(lambda t: (1 - t) * x0 + t * eps, t)
    torch.testing.assert_close(TARGETS.configure("velocity", {})(0.7).of(x0, eps, 1 - t, t).detach(), slope)


def test_v_is_the_velocity_of_diffusers() -> None:
    scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    x0, eps = _pair()
    steps = torch.linspace(0, 999, 64).long()
    alpha, sigma = (value[:, None, None, None] for value in cosine(1000).at(steps))
    scheduler.alphas_cumprod = cosine(1000).at(torch.arange(1000))[0] ** 2
    ours = TARGETS.configure("v", {})(0.7).of(x0, eps, alpha, sigma)
    torch.testing.assert_close(ours, scheduler.get_velocity(x0, eps, steps), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_in_x0_space_weighs_the_error_of_x0_whatever_the_target(name: str) -> None:
    class InX0:
        space = "x0"

        def __call__(self, log_snr: Tensor, slope: Tensor) -> Tensor:
            return torch.full_like(log_snr, 3.0)

    target: Target = TARGETS.configure(name, {})(0.7)
    path = NoisePath(torch.linspace(0.1, 1.4, 64), "variance_preserving")
    (x0, eps), (alpha, sigma) = _pair(), _point(path)
    x_t, truth = alpha * x0 + sigma * eps, target.of(x0, eps, alpha, sigma)
    wrong = truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight = Diffusion(path, target).weight(InX0(), torch.linspace(0, 63, 64)).double()  # type: ignore[arg-type]
    error_of_x0 = (target.split(wrong, x_t, alpha, sigma)[0] - x0).square().sum(dim=(1, 2, 3))
    torch.testing.assert_close(weight * (wrong - truth).square().sum(dim=(1, 2, 3)), 3 * error_of_x0, rtol=1e-5, atol=1e-9)


def test_the_default_condition_is_the_plain_input_and_the_label_as_it_is() -> None:
    alpha, sigma = _point(cosine(100))
    scale, label = TARGETS.configure("v", {})(0.7).condition(alpha, sigma, torch.arange(64.0))
    assert bool((scale == 1).all())
    assert torch.equal(label, torch.arange(64.0))
