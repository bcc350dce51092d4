"""Weightings: the papers' own forms, and that they are right for every target."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from ddpm_lab.diffusion.process import Diffusion
from registry.path import NoisePath
from registry.schedules.cosine import cosine
from registry.schedules.flow import flow
from registry.targets import TARGETS
from registry.weightings import WEIGHTINGS, Weighting

STD = 0.7
SIGMA = torch.tensor([0.01, 0.3, 1.0, 5.0, 40.0], dtype=torch.float64)  # sigma / alpha
LOG_SNR = -2 * SIGMA.log()


def _weight(name: str, **options: float) -> Tensor:
    return WEIGHTINGS.configure(name, options)(STD)(LOG_SNR, torch.full_like(LOG_SNR, -20.0))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "options", "space", "papers"),
    [
        ("constant", {}, "target", torch.ones(5, dtype=torch.float64)),
        ("snr", {}, "x0", SIGMA**-2),
        ("snr", {"at_least": 1.0}, "x0", torch.maximum(SIGMA**-2, torch.tensor(1.0))),
        ("min_snr", {"gamma": 5.0}, "x0", torch.minimum(SIGMA**-2, torch.tensor(5.0))),
        ("soft_min_snr", {"gamma": 4.0}, "x0", 1 / (SIGMA**2 + 1 / 4)),
        ("p2", {"k": 1.0, "gamma": 0.5}, "eps", 1 / (1 + SIGMA**-2) ** 0.5),
        ("sigmoid", {"b": 1.0}, "eps", 0.5 / (1 + math.exp(-1) * SIGMA**-2)),  # over log SNR
        ("edm", {}, "x0", (SIGMA**2 + STD**2) / (SIGMA * STD) ** 2),
    ],
)
def test_a_weighting_is_its_papers(name: str, options: dict[str, float], space: str, papers: Tensor) -> None:
    torch.testing.assert_close(_weight(name, **options), papers)
    assert WEIGHTINGS.configure(name, options)(STD).space == space


@pytest.mark.parametrize("path", [cosine(1000), flow(1000)], ids=["cosine", "flow"])
@pytest.mark.parametrize("name", ["min_snr", "p2", "sigmoid", "edm"])
def test_predictions_of_the_same_image_have_the_same_loss_whatever_the_target(name: str, path: NoisePath) -> None:
    rng = torch.Generator().manual_seed(0)
    x0, eps, wrong = torch.randn(3, 16, 1, 4, 4, generator=rng, dtype=torch.float64)
    level = torch.linspace(5, path.steps - 5, 16, dtype=torch.float64)
    alpha, sigma = (value[:, None, None, None] for value in path.at(level))
    x_t = alpha * x0 + sigma * eps
    losses = []
    for target in ("epsilon", "x0", "v", "velocity", "edm"):
        made = TARGETS.configure(target, {})(STD)
        guess = made.of(wrong, (x_t - alpha * wrong) / sigma, alpha, sigma)  # the prediction that denotes `wrong`
        weight = Diffusion(path, made).weight(WEIGHTINGS.configure(name, {})(STD), level).double()
        losses.append(weight * (guess - made.of(x0, eps, alpha, sigma)).square().flatten(1).mean(dim=1))
    for one, other in itertools.pairwise(losses):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=0)


def test_edms_weighting_makes_its_target_count_alike_everywhere() -> None:
    made = TARGETS.configure("edm", {})(STD)
    path = cosine(1000)
    weight = Diffusion(path, made).weight(WEIGHTINGS.configure("edm", {})(STD), torch.linspace(0, 999, 50))
    torch.testing.assert_close(weight, torch.ones(50), rtol=1e-4, atol=1e-4)


def test_the_log_variance_is_float32_under_autocast_too() -> None:
    learned = WEIGHTINGS.configure("uncertainty", {})(STD)
    torch.nn.init.normal_(learned.out.weight, generator=torch.Generator().manual_seed(0))
    exact = learned(LOG_SNR, LOG_SNR)
    with torch.autocast("cpu", torch.bfloat16):
        found = learned(LOG_SNR, LOG_SNR)
    assert found.dtype == torch.float32
    assert torch.equal(found, exact)


def test_learned_uncertainty_finds_the_size_of_the_error() -> None:
    """loss / exp(u) + u is least where u is the log of the mean loss."""
    torch.manual_seed(0)
    learned = WEIGHTINGS.configure("uncertainty", {})(STD)
    assert isinstance(learned, nn.Module)
    assert not isinstance(learned, Weighting)
    log_snr = torch.linspace(-8, 8, 200, dtype=torch.float64)
    error = torch.exp(log_snr / 4).float()
    assert bool((learned(log_snr, log_snr) == 0).all()), "at first each counts as it is"
    optimizer = torch.optim.Adam(learned.parameters(), 0.03)
    for _ in range(600):
        u = learned(log_snr, log_snr)
        optimizer.zero_grad()
        (error / u.exp() + u).mean().backward()
        optimizer.step()
    assert float((learned(log_snr, log_snr) - log_snr.float() / 4).abs().mean()) < 0.1
