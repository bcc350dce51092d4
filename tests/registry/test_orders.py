"""Every deterministic sampler, on every kind of path, converges to the truth at its order.

The data are Gaussian with known mean and covariance, so the perfect denoiser is in closed form and the probability flow is
affine. So is a sampler: its mean and covariance follow exactly from what it makes of 0 and of the basis vectors. Slopes are
measured between two finite log SNRs. Multistep methods begin with steps far smaller than the others, which is as good as exact
values: their error is of a higher order than what is measured.
"""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from registry.grids.karras import karras
from registry.grids.log_snr import log_snr
from registry.grids.uniform import uniform
from registry.path import NoisePath
from registry.samplers import SAMPLERS, Denoised, Grid, Step
from registry.schedules.cosine import cosine
from registry.schedules.edm import edm
from registry.schedules.flow import flow
from registry.schedules.linear import linear
from registry.variances.fixed_small import FixedSmall

MEAN = torch.tensor([0.3, -0.2], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.25, 0.1], [0.1, 0.4]], dtype=torch.float64)
PATHS = {"linear": linear(1000), "cosine": cosine(1000), "flow": flow(1000), "edm": edm(1000)}
FROM, TO = -4.0, 1.0  # log SNR
ORDERS = [
    ("ddim", {}, 1), ("euler", {}, 1), ("heun", {}, 2), ("dpmpp_2m", {}, 2), ("dpmpp_2m_sde", {"eta": 0.0}, 2),
    ("dpmpp_3m_sde", {"eta": 0.0, "published": False}, 3), ("dpmpp_3m_sde", {"eta": 0.0, "published": True}, 2),
    ("lms", {"order": 1}, 1), ("lms", {"order": 2}, 2), ("lms", {"order": 3}, 3), ("lms", {"order": 4}, 4),
    ("unipc", {"order": 1}, 2), ("unipc", {"order": 2}, 3), ("unipc", {"order": 3}, 4),
    ("unipc", {"order": 2, "corrector": False}, 2), ("unipc", {"order": 3, "corrector": False}, 3),
]  # fmt: skip


class _Between(Grid):
    """A walk that ends at its last level and not at the clean image."""

    def __len__(self) -> int:
        return len(self.levels) - 1

    def start(self, noise: Tensor) -> Tensor:
        return noise

    def __iter__(self) -> Iterator[Step]:
        yield from list(super().__iter__())[: len(self)]


def _spread(path: NoisePath, level: Tensor) -> Tensor:
    """The symmetric root of the covariance of x_t."""
    alpha, sigma = path.at(level)
    values, vectors = torch.linalg.eigh(alpha**2 * COVARIANCE + sigma**2 * torch.eye(2, dtype=torch.float64))
    return vectors @ torch.diag(values.sqrt()) @ vectors.T


def _error(name: str, options: dict[str, float], path: NoisePath, steps: int) -> float:
    """Of mean and covariance at the end, begun with those that are true at the start."""
    h = (TO - FROM) / steps
    lead = (
        torch.tensor([-2, -1]) * h**1.5
        if name in ("dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde", "lms", "unipc")
        else torch.zeros(0)
    )
    if options.get("order") == 4:
        lead = torch.tensor([-3, -2, -1]) * h**2
    levels = path.level(torch.cat([FROM + lead.double(), torch.linspace(FROM, TO, steps + 1, dtype=torch.float64)]))

    def denoise(x: Tensor, level: Tensor) -> Denoised:
        alpha, sigma = path.at(level)
        gain = alpha * COVARIANCE @ torch.linalg.inv(alpha**2 * COVARIANCE + sigma**2 * torch.eye(2, dtype=torch.float64))
        x0 = MEAN + (x - alpha * MEAN) @ gain.T
        return Denoised(x0, (x - alpha * x0) / sigma, None)

    sample = SAMPLERS.configure(name, options)
    probes = torch.cat([torch.zeros(1, 2), torch.eye(2)]).double()
    origin, *ends = sample(denoise, _Between(path, levels, FixedSmall()), lambda: probes)
    gain = (torch.stack(ends) - origin).T
    (start, end), (alpha, _) = (_spread(path, levels[i]) for i in (0, -1)), path.at(levels)
    mean = gain @ (alpha[0] * MEAN) + origin
    covariance = gain @ start @ start.T @ gain.T
    return float(torch.cat([(mean - alpha[-1] * MEAN), (covariance - end @ end.T).flatten()]).norm())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("name", "options", "order"), ORDERS)
def test_a_sampler_converges_at_its_order(name: str, options: dict[str, float], order: int, path: str) -> None:
    counts = [20, 40, 80, 160] if order < 4 else [15, 30, 60, 120]
    errors = [_error(name, options, PATHS[path], steps) for steps in counts]
    slope = -float(np.polyfit(np.log(counts[1:]), np.log(errors[1:]), 1)[0])
    print(
        f"{name} {options} on {path}: errors {', '.join(f'{error:.1e}' for error in errors)}; slope {slope:.2f}, order {order}"
    )
    assert SAMPLERS.part(name).traits.order_with(SAMPLERS.check(name, options)) == order, "it declares what is measured"
    assert abs(slope - order) < 0.25


@pytest.mark.parametrize("name", [part.name for part in SAMPLERS])
def test_a_sampler_uses_the_variance_where_it_declares_it(name: str) -> None:
    asked = []

    class Asked(FixedSmall):
        def __call__(self, *step: Tensor | None) -> Tensor:
            asked.append(step)
            return super().__call__(*step)

    path = PATHS["linear"]
    noise = torch.ones(1, 1, 1, 1).double
    SAMPLERS.configure(name, {})(lambda x, level, to=None: Denoised(x, x, None), Grid(path, uniform(path, 4), Asked()), noise)
    assert bool(asked) == SAMPLERS.part(name).traits.uses_variance


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("name", "options"), [(name, options) for name, options, _ in ORDERS])
def test_from_noise_to_the_image_a_sampler_lands_on_the_data(name: str, options: dict[str, float], path: str) -> None:
    """The whole walk, its pure ends included, in 200 steps."""
    walked = PATHS[path]
    grid = Grid(walked, uniform(walked, 200), FixedSmall())
    last = walked.at(grid.levels[0])

    def denoise(x: Tensor, level: Tensor) -> Denoised:
        alpha, sigma = walked.at(level)
        x0 = 0.3 + alpha * 0.25 / (alpha**2 * 0.25 + sigma**2) * (x - alpha * 0.3)
        return Denoised(x0, (x - alpha * x0) / sigma, None)

    start = torch.tensor([0.0, 1.0], dtype=torch.float64)
    offset, one = SAMPLERS.configure(name, options)(denoise, grid, lambda: start).tolist()
    assert torch.isfinite(torch.tensor([offset, one])).all()
    assert offset == pytest.approx(0.3, abs=0.02), last
    assert one - offset == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize("name", ["dpmpp_2m_sde", "dpmpp_3m_sde"])
def test_a_stochastic_sampler_lands_on_the_data_too(name: str, eta: float) -> None:
    """Exact mean and standard deviation: it is affine in each of its noises."""
    path, steps = cosine(1000), 100
    grid = Grid(path, log_snr(path, steps), FixedSmall())

    def denoise(x: Tensor, level: Tensor) -> Denoised:
        alpha, sigma = path.at(level)
        x0 = 0.3 + alpha * 0.25 / (alpha**2 * 0.25 + sigma**2) * (x - alpha * 0.3)
        return Denoised(x0, (x - alpha * x0) / sigma, None)

    # All probes at once: in column i only the i-th noise is 1, in the last none is.
    noises = iter(torch.eye(steps + 1, dtype=torch.float64)[:steps])
    *gains, offset = SAMPLERS.configure(name, {"eta": eta})(denoise, grid, lambda: next(noises)).tolist()
    assert offset == pytest.approx(0.3, abs=1e-3)
    assert float((torch.tensor(gains) - offset).norm()) == pytest.approx(0.5, abs=3e-3)


@pytest.mark.parametrize(("name", "tolerance"), [("euler", 0.04), ("heun", 0.01)])
def test_churn_keeps_the_distribution(name: str, tolerance: float) -> None:
    """Noise that is put back and taken away again changes what is drawn, not how it is spread."""
    path, steps = edm(1000), 120
    grid = Grid(path, karras(path, steps), FixedSmall())
    drawn: list[int] = []

    def denoise(x: Tensor, level: Tensor) -> Denoised:
        _, sigma = path.at(level)
        x0 = 0.3 + 0.25 / (0.25 + sigma**2) * (x - 0.3)
        return Denoised(x0, (x - x0) / sigma, None)

    def noise() -> Tensor:
        drawn.append(1)
        return torch.eye(2 * steps + 2, dtype=torch.float64)[len(drawn) - 1]

    options = {"churn": 20.0, "s_min": 0.05, "s_max": 50.0}
    *gains, offset = SAMPLERS.configure(name, options)(denoise, grid, noise).tolist()
    assert 20 < len(drawn) < steps, "it stirs inside of its range only"
    assert offset == pytest.approx(0.3, abs=0.02)
    assert float((torch.tensor(gains) - offset).norm()) == pytest.approx(0.5, abs=tolerance)
