"""Schedules, against diffusers."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from scipy.stats import kstest

from registry.path import NoisePath
from registry.schedules.cosine import cosine
from registry.schedules.edm import edm
from registry.schedules.flow import flow
from registry.schedules.laplace import laplace
from registry.schedules.linear import linear
from registry.schedules.quadratic import quadratic, scaled_linear
from registry.schedules.sigmoid import sigmoid


def _terminal_snr(path: NoisePath) -> float:
    return float(path.log_snr(torch.tensor([path.steps - 1.0])).exp())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (linear(1000), "linear"), (cosine(1000), "squaredcos_cap_v2"), (quadratic(1000), "scaled_linear"),
    ],
)  # fmt: skip
def test_signal_is_that_of_diffusers(path: NoisePath, name: str) -> None:
    theirs = DDPMScheduler(1000, beta_schedule=name, beta_start=1e-4, beta_end=0.02).alphas_cumprod.double()
    alpha, _ = path.at(torch.arange(1000))
    # diffusers makes its betas in float32.
    torch.testing.assert_close(alpha, theirs.sqrt(), rtol=1e-5, atol=1e-9)


def test_scaled_linear_ends_at_the_same_noise_whatever_the_number_of_steps() -> None:
    full = _terminal_snr(linear(1000))
    assert full == pytest.approx(4.04e-5, rel=0.01)  # alpha_bar_T of DDPM
    assert _terminal_snr(linear(200)) < 4e-5
    assert _terminal_snr(linear(4000)) == pytest.approx(full, rel=0.2)


def test_unscaled_linear_at_200_steps_ends_at_the_known_snr() -> None:
    assert _terminal_snr(linear(200, scale=False)) == pytest.approx(0.15, abs=0.01)


def test_few_steps_cap_beta() -> None:
    assert linear(5).steps == 5
    assert float(linear(10).at(torch.tensor([9.0]))[0]) > 0


def test_stable_diffusions_schedule_has_its_known_end() -> None:
    # alpha_bar_T = 0.004660, Lin et al. 2024, table 1.
    alpha, _ = scaled_linear(1000).at(torch.tensor(999.0))
    assert float(alpha) == pytest.approx(0.068265, abs=1e-5)
    assert _terminal_snr(scaled_linear(1000)) == pytest.approx(0.004682, abs=1e-5)


@pytest.mark.parametrize("make", [linear, cosine, quadratic, scaled_linear, sigmoid, laplace])
def test_zero_terminal_snr_is_that_of_diffusers(make: Callable[..., NoisePath]) -> None:
    plain, path = make(1000), make(1000, zero_terminal_snr=True)
    alpha, _ = plain.at(torch.arange(1000))
    betas = 1 - (alpha[1:] / alpha[:-1]) ** 2
    betas = torch.cat([1 - alpha[:1] ** 2, betas])
    scheduler = DDIMScheduler(1000, trained_betas=betas.numpy(), rescale_betas_zero_snr=True)
    ours, _ = path.at(torch.arange(1000))
    torch.testing.assert_close(ours**2, scheduler.alphas_cumprod.double(), rtol=1e-5, atol=1e-9)
    assert path.ends_in_noise
    assert not plain.ends_in_noise


@pytest.mark.parametrize("make", [linear, cosine, quadratic, sigmoid, laplace, flow, edm])
def test_a_shift_moves_the_log_snr_by_a_constant(make: Callable[..., NoisePath]) -> None:
    plain, shifted = make(500), make(500, shift=4.0)
    level = torch.arange(0, 490, 7)
    torch.testing.assert_close(shifted.log_snr(level), plain.log_snr(level) - 2 * math.log(4))


def test_flow_is_the_schedule_of_diffusers_with_its_shift() -> None:
    for shift in (1.0, 3.0):
        theirs = FlowMatchEulerDiscreteScheduler(1000, shift=shift).sigmas.double().flip(0)
        alpha, sigma = flow(1000, shift=shift).at(torch.arange(1000))
        torch.testing.assert_close(sigma, theirs, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(alpha + sigma, torch.ones(1000, dtype=torch.float64))


def test_edm_is_the_schedule_of_karras() -> None:
    scheduler = EulerDiscreteScheduler(1000, use_karras_sigmas=True)
    theirs = scheduler._convert_to_karras(in_sigmas=np.array([80.0, 0.002]), num_inference_steps=100)
    alpha, sigma = edm(100).at(torch.arange(100))
    np.testing.assert_allclose(sigma.flip(0).numpy(), theirs, rtol=1e-9)
    assert bool((alpha == 1).all())


def test_sigmoid_has_its_symmetry() -> None:
    # 1 - alpha_bar(t) = alpha_bar(1 - t) where start = -end: knot i holds t = (i + 1) / T.
    alpha, _ = sigmoid(1000, max_beta=1.0).at(torch.arange(1000))
    torch.testing.assert_close((1 - alpha**2)[:999], (alpha**2)[:999].flip(0))
    assert float(alpha[499] ** 2) == pytest.approx(0.5)


def test_laplace_log_snrs_are_distributed_as_laplace() -> None:
    path = laplace(10_000, mu=0.3, b=0.5)
    log_snr = path.log_snr(torch.arange(10_000)).numpy()
    assert kstest(log_snr, "laplace", args=(0.3, 0.5)).statistic < 1e-3
