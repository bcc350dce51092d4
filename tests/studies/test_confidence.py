"""An interval that holds however often it is looked at: against the integrals that define it, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.verdicts.simulation import verdicts
from ddpm_lab.studies.confidence import EFFECT, around, widest
from ddpm_lab.studies.decision import Rule

LOOKS, COUNT = 50, 2000
SPREAD = 0.07 * math.sqrt(2)  # of the log ratio of a pair: what seeds do to two runs


def _log_marginal(values: np.ndarray, mean: float, g: float) -> float:
    """ln of the integral of the normal density over the scale (right Haar) and, with g > 0, over the effect."""
    log_sd = np.linspace(-12, 6, 1801)[:, None]
    effect = np.linspace(-12, 12, 1201) * math.sqrt(g) if g else np.zeros(1)
    prior = stats.norm.logpdf(effect, 0, math.sqrt(g)) + math.log(effect[1] - effect[0]) if g else np.zeros(1)
    sd = np.exp(log_sd)
    each = sum(stats.norm.logpdf(value, mean + effect * sd, sd) for value in values)
    return float(np.logaddexp.reduce(each + prior, axis=None))  # d ln sd = d sd / sd; its step cancels in the ratio


@pytest.mark.parametrize(("count", "alpha"), [(4, 0.05), (7, 0.05), (12, 0.01)])
def test_at_its_ends_the_bayes_factor_of_the_mixture_is_one_over_alpha(count: int, alpha: float) -> None:
    values = 0.05 + 0.1 * np.random.default_rng(count).standard_normal(count)
    mean, half = around(list(values), alpha)
    for end in (mean - half, mean + half):
        factor = _log_marginal(values, end, EFFECT) - _log_marginal(values, end, 0)
        assert factor == pytest.approx(-math.log(alpha), abs=0.01)


def test_two_values_tell_nothing_and_a_thousand_nearly_what_the_normal_law_says() -> None:
    assert widest(1, 0.05) == widest(2, 0.05) == math.inf
    assert around([0.1, 0.2], 0.05)[1] == math.inf
    assert around([0.1] * 8, 0.05) == (pytest.approx(0.1), pytest.approx(0))
    # Of known variance: t^2 = ln((1 + n g) / alpha^2).
    assert widest(1000, 0.05) == pytest.approx(math.sqrt(math.log((1 + 1000 * EFFECT) / 0.05**2)), rel=0.01)


NOISE = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "t with 3 degrees of freedom": lambda rng, shape: rng.standard_t(3, shape),
    "one in ten five times as wide": lambda rng, shape: rng.standard_normal(shape) * np.where(rng.random(shape) < 0.1, 5, 1),
    "difference of two skewed ones": lambda rng, shape: rng.exponential(size=shape) - rng.exponential(size=shape),
}


@pytest.mark.parametrize("kind", NOISE)
def test_of_two_thousand_verdicts_on_equals_at_most_one_in_twenty_finds_a_difference(kind: str) -> None:
    logs = SPREAD * NOISE[kind](np.random.default_rng(5), (COUNT, LOOKS))
    assert verdicts(logs, margin=0.0).differs.mean() <= 0.05  # looked at after each of fifty pairs, with no other way to end
    assert verdicts(logs, margin=0.15).differs.mean() <= 0.05
    # What a test that knows of one look finds, which is what such an interval is for.
    often = [stats.ttest_1samp(logs[:, :n], 0, axis=1).pvalue < 0.05 for n in range(3, LOOKS + 1)]
    assert np.any(often, axis=0).mean() > 0.15


@pytest.mark.parametrize("count", [5, 10, 40])
def test_it_covers_the_mean_at_a_fixed_number_and_is_wider_than_students(count: int) -> None:
    values = 0.3 + np.random.default_rng(7).standard_normal((COUNT, count))
    error = abs(values.mean(1) - 0.3) * math.sqrt(count) / values.std(1, ddof=1)
    assert (error <= widest(count, 0.05)).mean() >= 0.95
    assert widest(count, 0.05) > stats.t.ppf(0.975, count - 1)


@pytest.mark.parametrize(("ratio", "least", "most"), [(0.9, 11, 14), (0.8, 5, 7), (0.5, 3, 5)])
def test_a_difference_is_found_in_so_many_pairs(ratio: float, least: float, most: float) -> None:
    logs = math.log(ratio) + SPREAD * np.random.default_rng(3).standard_normal((COUNT, 100))
    found = verdicts(logs, margin=0.0)
    assert found.differs.mean() > 0.99
    assert least < found.pairs.mean() < most


def test_the_simulation_decides_as_a_verdict_does() -> None:
    logs = math.log(0.93) + SPREAD * np.random.default_rng(4).standard_normal((200, 20))
    for margin in (0.0, 0.15):
        found = verdicts(logs, margin)
        for row, pairs, differs, agrees in zip(logs, *found, strict=True):
            told = Rule(margin, 0.05, higher=False).decide(list(row))
            assert told.pairs == pairs
            assert (told.outcome in ("better", "worse"), told.outcome == "no difference") == (differs, agrees)
