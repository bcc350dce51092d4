"""Samplers step by step against diffusers, whose tables of sigmas are overwritten with ours in float64."""

from collections.abc import Callable

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

from registry.grids.karras import karras
from registry.grids.uniform import uniform
from registry.path import NoisePath
from registry.samplers import SAMPLERS, Denoise, Denoised, Grid
from registry.samplers.unipc import _moved
from registry.schedules.cosine import cosine
from registry.schedules.edm import edm
from registry.variances.fixed_small import FixedSmall

STEPS = 12
VP = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "final_sigmas_type": "zero"}


def _noises() -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(2, 1, 4, 4, generator=rng, dtype=torch.float64) for _ in range(STEPS + 1)]


def _network(x: Tensor) -> Tensor:
    """Some x_0, smooth in x."""
    return torch.tanh(1.3 * x - 0.2)


def _denoise(path: NoisePath) -> Denoise:
    def denoise(x: Tensor, level: Tensor) -> Denoised:
        alpha, sigma = path.at(level)
        return Denoised(_network(x), (x - alpha * _network(x)) / sigma, None)

    return denoise


def _ratios(grid: Grid) -> Tensor:
    alpha, sigma = grid.path.at(grid.levels)
    return torch.cat([sigma / alpha, torch.zeros(1, dtype=torch.float64)])


def _ours(name: str, options: dict[str, float], grid: Grid, noises: list[Tensor]) -> Tensor:
    following = iter(noises)
    return SAMPLERS.configure(name, options)(_denoise(grid.path), grid, lambda: next(following))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "options", "order", "kind", "form"),
    [
        ("dpmpp_2m", {}, 2, "dpmsolver++", "midpoint"),
        ("dpmpp_2m_sde", {"eta": 1.0}, 2, "sde-dpmsolver++", "midpoint"),
        ("dpmpp_3m_sde", {"eta": 0.0, "published": True}, 3, "dpmsolver++", "heun"),
    ],
)
def test_dpm_solver_takes_the_steps_of_diffusers(
    name: str, options: dict[str, float], order: int, kind: str, form: str
) -> None:
    path = cosine(1000)
    grid, noises = Grid(path, uniform(path, STEPS), FixedSmall()), _noises()
    scheduler = DPMSolverMultistepScheduler(**VP, solver_order=order, algorithm_type=kind, solver_type=form)
    scheduler.set_timesteps(STEPS)
    scheduler.sigmas = _ratios(grid)
    x, seen = noises[0], list[Tensor]()
    for index in range(STEPS):
        scheduler._step_index = index
        seen.append(_network(x))
        noise = noises[index + 1] if index + 1 < STEPS else torch.zeros_like(x)
        if index in (0, STEPS - 1):
            x = scheduler.dpm_solver_first_order_update(seen[-1], sample=x, noise=noise)
        elif index == 1 or order == 2:
            x = scheduler.multistep_dpm_solver_second_order_update(seen, sample=x, noise=noise)
        else:
            x = scheduler.multistep_dpm_solver_third_order_update(seen, sample=x, noise=noise)
    torch.testing.assert_close(_ours(name, options, grid, noises), x, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("name", "kind"), [("euler", EulerDiscreteScheduler), ("heun", HeunDiscreteScheduler)])
def test_euler_and_heun_take_the_steps_of_diffusers(name: str, kind: Callable[..., EulerDiscreteScheduler]) -> None:
    path = edm(1000)
    grid, noises = Grid(path, karras(path, STEPS), FixedSmall()), _noises()
    scheduler = kind(num_train_timesteps=1000)
    scheduler.set_timesteps(STEPS)
    ratios = _ratios(grid)
    # Heun's table has each inner level twice.
    scheduler.sigmas = ratios if name == "euler" else torch.cat([ratios[:1], ratios[1:-1].repeat_interleave(2), ratios[-1:]])
    x = noises[0] * ratios[0]
    for index, step in enumerate(scheduler.timesteps):
        scheduler._step_index = index
        x = scheduler.step((x - _network(x)) / scheduler.sigmas[index], step, x).prev_sample
    torch.testing.assert_close(_ours(name, {}, grid, noises), x.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("correct", [False, True], ids=["predictor", "corrector"])
def test_a_step_of_unipc_is_that_of_diffusers(correct: bool) -> None:
    """In the middle of a walk, at order 3; their first steps and their order 2 take a half where the paper solves."""
    path = cosine(1000)
    grid, noises = Grid(path, uniform(path, STEPS), FixedSmall()), _noises()
    steps, index = list(grid), 6
    scheduler = UniPCMultistepScheduler(**VP, solver_order=3, solver_type="bh2", prediction_type="sample")
    scheduler.set_timesteps(STEPS)
    scheduler.sigmas = _ratios(grid)
    whens = [torch.log(step.alpha_t / step.sigma_t) for step in steps]
    outputs = noises[1:4]  # x0 at the three levels before
    past = list(zip(outputs, whens[index - 2 : index + 1], strict=True))
    scheduler.model_outputs, scheduler.timestep_list = list(outputs), [0, 0, 0]
    if correct:
        ours = _moved(noises[0], steps[index], past, (noises[5], whens[index + 1]))
        scheduler._step_index = index + 1
        theirs = scheduler.multistep_uni_c_bh_update(noises[5], last_sample=noises[0], this_sample=noises[6], order=3)
    else:
        ours = _moved(noises[0], steps[index], past, None)
        scheduler._step_index = index
        theirs = scheduler.multistep_uni_p_bh_update(outputs[-1], sample=noises[0], order=3)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
