"""The terms of the variational bound, against numerical integration and counting."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor
from torch.distributions import Normal

from ddpm_lab.diffusion.model import Model, Objective
from ddpm_lab.diffusion.process import Diffusion
from ddpm_lab.diffusion.vlb import bound_term, discretized_log_likelihood, gaussian_kl
from ddpm_lab.training.loss import training_loss
from registry.levels import LEVELS
from registry.losses import LOSSES
from registry.objectives import Batch
from registry.objectives.denoising import denoising
from registry.path import Kind, NoisePath
from registry.samplers import Denoised
from registry.schedules.linear import linear
from registry.targets import TARGETS
from registry.variances import VARIANCES, forward_variance
from registry.weightings import WEIGHTINGS

PATH = linear(1000)
DIFFUSION = Diffusion(PATH, TARGETS.configure("epsilon", {})(0.7))


def _one(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_the_divergence_of_two_gaussians_is_its_integral() -> None:
    x = np.linspace(-30, 30, 400_001)
    for difference, deviation_q, deviation_p in ((0.7, 0.5, 1.3), (-2.0, 2.0, 0.9), (0.0, 1.0, 1.0)):
        q, p = norm(difference, deviation_q), norm(0, deviation_p)
        integral = np.trapezoid(q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), x)
        ours = gaussian_kl(_one(difference), 2 * _one(deviation_q).log(), 2 * _one(deviation_p).log())
        assert float(ours) == pytest.approx(integral, abs=1e-6)


def test_the_probabilities_of_all_grey_levels_add_up_to_one() -> None:
    grey = torch.linspace(-1, 1, 256, dtype=torch.float64)
    for mean, deviation in ((0.3, 0.02), (-0.99, 0.1), (1.4, 0.3), (0.0, 3.0)):
        log_variance = torch.full_like(grey, 2 * math.log(deviation))
        probability = discretized_log_likelihood(grey, torch.full_like(grey, mean), log_variance).exp()
        assert float(probability.sum()) == pytest.approx(1, abs=1e-6)
        edges = np.concatenate([[-np.inf], (grey[:-1] + 1 / 255).numpy(), [np.inf]])
        np.testing.assert_allclose(probability.numpy(), np.diff(norm(mean, deviation).cdf(edges)), atol=1e-9)


def test_a_term_is_the_divergence_of_the_posterior_from_the_step() -> None:
    """By Bayes' rule on a grid of x_s, for one pixel."""
    x0, x_t, guess, extra = 0.4, 0.9, -0.1, 0.25
    (alpha_t, alpha_s), (sigma_t, sigma_s) = (value.tolist() for value in PATH.at(torch.tensor([500.0, 499.0])))
    ratio, x = alpha_t / alpha_s, np.linspace(-3, 3, 600_001)
    forward = sigma_t**2 - ratio**2 * sigma_s**2

    def posterior(image: float) -> tuple[float, float]:
        log_density = -((x_t - ratio * x) ** 2) / (2 * forward) - (x - alpha_s * image) ** 2 / (2 * sigma_s**2)
        density = np.exp(log_density - log_density.max())
        mean = (density * x).sum() / density.sum()
        return mean, (density * (x - mean) ** 2).sum() / density.sum()

    (mean_q, variance_q), (mean_p, small) = posterior(x0), posterior(guess)
    variance_p = forward ** ((1 + extra) / 2) * small ** ((1 - extra) / 2)
    q, p = norm(mean_q, variance_q**0.5), norm(mean_p, variance_p**0.5)
    integral = np.trapezoid(q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), x) / math.log(2)

    def image(value: float) -> torch.Tensor:
        return torch.full((1, 1, 1, 1), value)

    seen = Denoised(image(guess), image(0.0), image(extra))
    variance = VARIANCES.configure("learned_range", {})()
    ours = bound_term(DIFFUSION, variance, image(x0), image(x_t), torch.tensor([500.0], dtype=torch.float64), seen)
    assert float(ours) == pytest.approx(integral, rel=1e-3)


def test_the_learned_variance_lies_between_the_fixed_ones() -> None:
    (alpha_t, alpha_s), (sigma_t, sigma_s) = PATH.at(torch.tensor([300.0, 280.0]))
    step = (alpha_t, sigma_t, alpha_s, sigma_s)
    learned = VARIANCES.configure("learned_range", {})()
    for extra, fixed in ((1.0, "fixed_large"), (-1.0, "fixed_small")):
        torch.testing.assert_close(learned(*step, torch.tensor(extra).double()), VARIANCES.configure(fixed, {})()(*step, None))
    middle = float(learned(*step, torch.tensor(0.0).double()))
    assert middle**2 == pytest.approx(float(forward_variance(*step)) ** 2 * float((sigma_s / sigma_t) ** 2))


def test_a_term_is_finite_at_every_level() -> None:
    level = torch.arange(0, 1000, 37, dtype=torch.float64)
    x0 = torch.rand(len(level), 1, 2, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    seen = Denoised(x0, x0, torch.zeros_like(x0))
    terms = bound_term(DIFFUSION, VARIANCES.configure("learned_range", {})(), x0, x0, level, seen)
    assert bool(terms.isfinite().all())
    assert bool((terms[1:] >= 0).all())


SPREAD, SHARE = 0.4, 0.25  # of the pixels; between the two fixed variances


def _guess(path: NoisePath, x: Tensor, level: Tensor) -> Tensor:
    """E[x_0 | x_t] for pixels N(0, SPREAD^2)."""
    alpha, sigma = path.at(level)
    return alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2) * x


def _bound_by_definition(path: NoisePath, x0: Tensor, rng: torch.Generator) -> Tensor:
    """-log p(x_0, x_1 ... x_n) + log q(x_1 ... x_n | x_0) of one walk for each pixel, in bits; its mean is the bound.

    The walk visits d, d + 1 ... d + T - 2, where d is uniform in [0, 1]; no divergence has been worked out.
    """
    first = torch.rand(len(x0), generator=rng, dtype=torch.float64)
    total, before, x = torch.zeros(len(x0), dtype=torch.float64), None, x0
    for step in range(path.steps - 1):
        level = first + step
        alpha, sigma = path.at(level)
        a, s = (torch.ones(()), torch.zeros(())) if before is None else before
        there = Normal(alpha / a * x, (sigma**2 - (alpha / a * s) ** 2).sqrt())  # q(x_t | x_s)
        x_t = there.mean + there.stddev * torch.randn(len(x0), generator=rng, dtype=torch.float64)
        total += there.log_prob(x_t)
        guess, large = _guess(path, x_t, level), there.variance
        if before is None:
            deviation = (large ** ((1 + SHARE) / 2) * (large / 2) ** ((1 - SHARE) / 2)).sqrt()
            bin_ = norm(guess.numpy(), deviation.numpy())
            low = np.where(x0 < -0.999, -np.inf, x0 - 1 / 255)
            high = np.where(x0 > 0.999, np.inf, x0 + 1 / 255)
            total -= torch.from_numpy(np.log(bin_.cdf(high) - bin_.cdf(low)))
        else:
            small = 1 / ((alpha / a) ** 2 / large + 1 / s**2)  # a product of Gaussians
            mean = small * (alpha / a / large * x_t + a / s**2 * guess)
            total -= Normal(mean, (large ** ((1 + SHARE) / 2) * small ** ((1 - SHARE) / 2)).sqrt()).log_prob(x)
        before, x = (alpha, sigma), x_t
    assert before is not None
    start = torch.ones(()) if path.kind == "variance_preserving" else before[1]
    return (total - Normal(0.0, start.double()).log_prob(x)) / math.log(2)


@pytest.mark.parametrize("levels", ["uniform", "logit_normal", "importance"])
@pytest.mark.parametrize(
    ("kind", "steps", "end"),
    [("variance_preserving", 10, -10.0), ("variance_preserving", 5, -1.0), ("flow", 4, -2.0), ("variance_exploding", 10, -6.0)],
)
def test_what_the_variance_learns_from_is_the_bound(kind: Kind, steps: int, end: float, levels: str) -> None:
    """On average over images, levels and noise: the sum of the terms, the prior's included."""
    path = NoisePath.from_log_snr(torch.linspace(8, end, steps), kind)
    rng, count = torch.Generator().manual_seed(0), 20_000
    x0 = (torch.randn(count, generator=rng, dtype=torch.float64) * SPREAD).clamp(-1, 1)
    x0 = ((x0 + 1) * 127.5).round() / 127.5 - 1
    expected = _bound_by_definition(path, x0, rng)

    def network(x: Tensor, label: Tensor, y: Tensor | None) -> Tensor:
        guess = _guess(path, x[:, 0, 0, 0], label * steps / 1000)[:, None, None, None]
        return torch.cat([guess, torch.full_like(x, SHARE)], dim=1)

    # Wide, so that the few levels near the ends, which count for all that are not sampled there, are not too few.
    made = LEVELS.configure(levels, {"std": 2.0} if levels == "logit_normal" else {})(path)
    objective = Objective(made, LOSSES.configure("l2", {}), WEIGHTINGS.configure("constant", {})(SPREAD), denoising)
    level, importance = made(count, rng)
    batch = Batch(x0[:, None, None, None], None, torch.randn(count, 1, 1, 1, generator=rng).double(), level, importance)
    losses = []
    for share in (1.0, 1e-30):
        variance = VARIANCES.configure("learned_range", {"bound": share})()
        model = Model(Diffusion(path, TARGETS.configure("x0", {})(SPREAD)), torch.nn.Identity(), variance, None)
        losses.append(training_loss(model, objective, network, batch))  # type: ignore[arg-type]
    found = (losses[0] - losses[1]).double() * importance
    error = float((found.var() / count + expected.var() / count).sqrt())
    print(f"{float(found.mean()):.3f} bits for {float(expected.mean()):.3f}, standard error {error:.3f}")
    assert error < 0.15
    assert float(found.mean()) == pytest.approx(float(expected.mean()), abs=4 * error)
