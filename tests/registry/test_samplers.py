"""Samplers on Gaussian data, where the perfect denoiser is known, and step by step against diffusers."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from registry.grids.uniform import uniform
from registry.path import NoisePath
from registry.samplers import SAMPLERS, Denoise, Denoised, Grid
from registry.schedules.cosine import cosine
from registry.schedules.linear import linear
from registry.variances.fixed_large import FixedLarge
from registry.variances.fixed_small import FixedSmall

MEAN, STD = 0.3, 0.5


def _perfect(path: NoisePath) -> Denoise:
    """E[x0 | x_t] for x0 ~ N(MEAN, STD^2): the posterior of a Gaussian under Gaussian noise."""

    def denoise(x: Tensor, level: Tensor) -> Denoised:
        alpha, sigma = path.at(level)
        x0 = MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (x - alpha * MEAN)
        return Denoised(x0, (x - alpha * x0) / sigma, None)

    return denoise


def _moments(name: str, options: dict[str, float], path: NoisePath, steps: int, variance: object) -> tuple[float, float]:
    """Exact mean and standard deviation of what a sampler makes, because it is affine in its noises: probed all at once."""
    # In column i only the i-th noise is 1, in the last none is; a step asks for one noise at most, the start for one.
    noises = iter(torch.eye(steps + 2, dtype=torch.float64)[:-1])
    grid = Grid(path, uniform(path, steps), variance)  # type: ignore[arg-type]
    *gains, offset = SAMPLERS.configure(name, options)(_perfect(path), grid, lambda: next(noises)).tolist()
    return offset, math.hypot(*(gain - offset for gain in gains))


@pytest.mark.parametrize("path", [cosine(1000), linear(1000)], ids=["cosine", "linear"])
def test_ddim_lands_on_the_data_at_first_order(path: NoisePath) -> None:
    errors = []
    for steps in (50, 100, 200, 400):
        mean, std = _moments("ddim", {}, path, steps, FixedSmall())
        errors.append(math.hypot(mean - MEAN, std - STD))
    slope = -np.polyfit(np.log([50, 100, 200, 400]), np.log(errors), 1)[0]
    print(f"ddim: errors {errors}, slope {slope:.2f}")
    assert errors[-1] < 0.01
    assert slope > 0.8


def test_ddim_follows_the_probability_flow_exactly_in_the_limit() -> None:
    # From x_T the flow of a Gaussian is affine: x_0 = MEAN + STD / sqrt(alpha^2 STD^2 + sigma^2) (x_T - alpha MEAN).
    path = cosine(1000)
    alpha, sigma = (float(value) for value in path.at(torch.tensor(900.0)))
    levels = torch.linspace(900, 0, 4000, dtype=torch.float64)
    x_T = torch.tensor([0.7], dtype=torch.float64)
    found = SAMPLERS.configure("ddim", {})(_perfect(path), Grid(path, levels, FixedSmall()), lambda: x_T)
    truth = MEAN + STD / math.sqrt(alpha**2 * STD**2 + sigma**2) * (0.7 - alpha * MEAN)
    assert float(found) == pytest.approx(truth, abs=2e-3)


@pytest.mark.parametrize("variance", [FixedSmall(), FixedLarge()], ids=["small", "large"])
def test_ancestral_converges_to_the_data(variance: object) -> None:
    errors = []
    for steps in (20, 60, 180):
        mean, std = _moments("ancestral", {}, cosine(1000), steps, variance)
        errors.append(math.hypot(mean - MEAN, std - STD))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02


def test_ddim_with_eta_one_is_the_ancestral_sampler() -> None:
    for steps in (3, 17):
        ddim = _moments("ddim", {"eta": 1.0}, cosine(1000), steps, FixedSmall())
        ancestral = _moments("ancestral", {}, cosine(1000), steps, FixedSmall())
        assert ddim == pytest.approx(ancestral, rel=1e-9)


def test_an_ancestral_step_is_bayes_rule() -> None:
    # q(x_s | x_t, x0) is proportional to q(x_t | x_s) q(x_s | x0): a product of two Gaussians, on a grid of x_s.
    path = linear(1000)
    x_t, x0 = 0.8, -0.2
    (alpha_t, alpha_s), (sigma_t, sigma_s) = (value.tolist() for value in path.at(torch.tensor([600.0, 400.0])))
    ratio = alpha_t / alpha_s
    x_s = np.linspace(-6, 6, 200_001)
    forward = sigma_t**2 - ratio**2 * sigma_s**2
    log_density = -((x_t - ratio * x_s) ** 2) / (2 * forward) - (x_s - alpha_s * x0) ** 2 / (2 * sigma_s**2)
    density = np.exp(log_density - log_density.max())
    mean = (density * x_s).sum() / density.sum()
    variance = (density * (x_s - mean) ** 2).sum() / density.sum()

    seen: list[Tensor] = []

    def denoise(x: Tensor, level: Tensor) -> Denoised:
        seen.append(x)
        return Denoised(torch.full_like(x, x0), x, None)

    for draw in (0.0, 1.0):
        noises = iter([x_t, draw, 0.0])
        levels = torch.tensor([600.0, 400.0], dtype=torch.float64)
        SAMPLERS.configure("ancestral", {})(
            denoise, Grid(path, levels, FixedSmall()), lambda n=noises: torch.tensor([next(n)], dtype=torch.float64)
        )  # fmt: skip
    at_mean, at_one = float(seen[1]), float(seen[3])
    assert at_mean == pytest.approx(mean, rel=1e-6)
    assert (at_one - at_mean) ** 2 == pytest.approx(variance, rel=1e-6)


@pytest.mark.parametrize(("kind", "variance"), [("fixed_small", FixedSmall()), ("fixed_large", FixedLarge())])
def test_ancestral_takes_the_steps_of_diffusers(kind: str, variance: object) -> None:
    _follow(
        DDPMScheduler(100, beta_schedule="squaredcos_cap_v2", variance_type=kind, clip_sample=False), "ancestral", {}, variance
    )


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_takes_the_steps_of_diffusers(eta: float) -> None:
    # "set_alpha_to_one" ends the walk at the clean image, as the lab does.
    scheduler = DDIMScheduler(100, beta_schedule="squaredcos_cap_v2", clip_sample=False, set_alpha_to_one=True)
    _follow(scheduler, "ddim", {"eta": eta}, FixedSmall())


def _follow(scheduler: DDPMScheduler | DDIMScheduler, name: str, options: dict[str, float], variance: object) -> None:
    """Walk a hundred steps with both, on the same made-up noise prediction and the same noise."""
    scheduler.set_timesteps(100)
    path = cosine(100)
    alpha, _ = path.at(torch.arange(100))
    scheduler.alphas_cumprod = alpha**2  # ours, in float64; theirs are made of float32
    rng = torch.Generator().manual_seed(0)
    noises = [torch.randn(2, 1, 4, 4, generator=rng, dtype=torch.float64) for _ in range(101)]

    def network(x: Tensor) -> Tensor:
        return torch.tanh(x) * 0.9

    def denoise(x: Tensor, level: Tensor) -> Denoised:
        alpha, sigma = (value.to(x.dtype) for value in path.at(level))
        return Denoised((x - sigma * network(x)) / alpha, network(x), None)

    ours_next = iter(noises)
    ours = SAMPLERS.configure(name, options)(denoise, Grid(path, uniform(path, 100), variance), lambda: next(ours_next))  # type: ignore[arg-type]
    x = noises[0]
    for index, step in enumerate(scheduler.timesteps):
        noise = noises[min(index + 1, 100)]
        if isinstance(scheduler, DDIMScheduler):
            x = scheduler.step(
                network(x), step, x, eta=options["eta"], variance_noise=noise if step > 0 else noise * 0
            ).prev_sample
        else:
            x = _ddpm_step(scheduler, network(x), int(step), x, noise)
    torch.testing.assert_close(ours, x, rtol=1e-6, atol=1e-9)


def _ddpm_step(scheduler: DDPMScheduler, eps: Tensor, step: int, x: Tensor, noise: Tensor) -> Tensor:
    """diffusers draws its own noise, so its mean is taken without and its standard deviation is asked for."""
    state = torch.random.get_rng_state()
    torch.manual_seed(step)
    with_noise = scheduler.step(eps, step, x).prev_sample
    torch.manual_seed(step)
    drawn = torch.randn(x.shape, dtype=x.dtype)
    torch.random.set_rng_state(state)
    if step == 0:
        return with_noise
    deviation = scheduler._get_variance(step) ** 0.5
    return with_noise + deviation * (noise - drawn)


def test_the_last_step_adds_no_noise_and_each_other_stochastic_step_draws_once() -> None:
    for name, options, draws in (("ddim", {}, 1), ("ddim", {"eta": 1.0}, 10), ("ancestral", {}, 10)):
        drawn: list[int] = []

        def noise(drawn: list[int] = drawn) -> Tensor:
            drawn.append(1)
            return torch.zeros(1, dtype=torch.float64)

        SAMPLERS.configure(name, options)(
            _perfect(cosine(100)), Grid(cosine(100), uniform(cosine(100), 10), FixedSmall()), noise
        )
        assert len(drawn) == draws, name


def test_the_uniform_grid_goes_from_the_noisiest_level_to_the_cleanest() -> None:
    levels = uniform(cosine(1000), 7)
    assert levels[0] == 999
    assert levels[-1] == 0
    torch.testing.assert_close(levels.diff(), torch.full((6,), -166.5, dtype=torch.float64))
