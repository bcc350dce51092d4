"""Schedules, against diffusers."""

import pytest
import torch
from diffusers import DDPMScheduler

from registry.path import NoisePath
from registry.schedules.cosine import cosine
from registry.schedules.linear import linear


def _terminal_snr(path: NoisePath) -> float:
    return float(path.log_snr(torch.tensor([path.steps - 1.0])).exp())


@pytest.mark.parametrize(("path", "name"), [(linear(1000), "linear"), (cosine(1000), "squaredcos_cap_v2")])
def test_signal_is_that_of_diffusers(path: NoisePath, name: str) -> None:
    theirs = DDPMScheduler(1000, beta_schedule=name, beta_start=1e-4, beta_end=0.02).alphas_cumprod.double()
    alpha, _ = path.at(torch.arange(1000))
    # diffusers accumulates in float32.
    torch.testing.assert_close(alpha**2, theirs, rtol=2e-5, atol=1e-9)


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
