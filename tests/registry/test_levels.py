"""Levels: where they lie and how they are spread."""

import pytest
import torch

from registry.levels import LEVELS, AdaptiveLevels
from registry.levels.stratified import Stratified
from registry.levels.uniform import Uniform
from registry.schedules.cosine import cosine
from registry.schedules.edm import edm


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", [Uniform, Stratified])
def test_levels_are_real_numbers_that_fill_the_path(kind: type) -> None:
    level, importance = kind(cosine(1000))(20_000, _rng())
    assert 0 <= float(level.min()) < 1
    assert 998 < float(level.max()) <= 999
    assert float(level.mean()) == pytest.approx(499.5, abs=8)
    assert float(level.std()) == pytest.approx(999 / 12**0.5, rel=0.02)
    assert not torch.equal(level, level.round())
    assert bool((importance == 1).all())


@pytest.mark.parametrize("kind", [Uniform, Stratified])
def test_the_generator_decides(kind: type) -> None:
    assert torch.equal(kind(cosine(100))(8, _rng())[0], kind(cosine(100))(8, _rng())[0])
    assert not torch.equal(kind(cosine(100))(8, _rng())[0], kind(cosine(100))(8, _rng(1))[0])


def test_stratified_puts_one_level_in_each_stratum_in_no_order() -> None:
    for seed in range(20):
        level, _ = Stratified(cosine(1000))(64, _rng(seed))
        assert (level / 999 * 64).floor().clamp(max=63).sort().values.tolist() == list(range(64))
        assert not torch.equal(level, level.sort().values)


def test_lognormal_levels_have_a_normal_logarithm_of_sigma() -> None:
    path = edm(1000, sigma_min=1e-5, sigma_max=1e4)
    level, importance = LEVELS.configure("lognormal", {"mean": -1.2, "std": 1.2})(path)(20_000, _rng())
    alpha, sigma = path.at(level)
    log_sigma = torch.log(sigma / alpha)
    assert float(log_sigma.mean()) == pytest.approx(-1.2, abs=0.03)
    assert float(log_sigma.std()) == pytest.approx(1.2, rel=0.02)
    assert bool((importance == 1).all())


def test_logit_normal_levels_have_a_normal_logit() -> None:
    level, _ = LEVELS.configure("logit_normal", {"mean": 0.5, "std": 0.8})(cosine(1000))(20_000, _rng())
    logit = torch.logit(level / 999)
    assert float(logit.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(logit.std()) == pytest.approx(0.8, rel=0.02)


def test_importance_levels_follow_the_loss_and_stay_unbiased() -> None:
    levels = LEVELS.configure("importance", {"bins": 10, "history": 4, "uniform": 0.01})(cosine(1001))
    assert isinstance(levels, AdaptiveLevels)
    drawn, importance = levels(1000, _rng())
    assert bool((importance == 1).all()), "uniform until each bin has been seen often enough"

    def loss(level: torch.Tensor) -> torch.Tensor:
        return torch.where(level < 100, 9.0, 1.0)

    for seed in range(3):
        drawn, _ = levels(1000, _rng(seed))
        levels.update(drawn, loss(drawn))
    drawn, importance = levels(100_000, _rng())
    assert float((drawn < 100).double().mean()) == pytest.approx(0.99 * 9 / 18 + 0.01 / 10, abs=0.01)
    assert float((importance * loss(drawn)).mean()) == pytest.approx(0.1 * 9 + 0.9, rel=0.01)
    # With the same losses in all bins they are uniform again: old losses give way.
    for seed in range(3):
        levels.update(levels.top * torch.rand(1000, generator=_rng(seed), dtype=torch.float64), torch.ones(1000))
    assert float((levels(1000, _rng())[1] - 1).abs().max()) < 1e-9


def test_importance_levels_go_on_from_their_state() -> None:
    first, second = (LEVELS.configure("importance", {"bins": 5, "history": 2})(cosine(100)) for _ in range(2))
    drawn, _ = first(200, _rng())
    first.update(drawn, drawn.float())
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(50, _rng(3))[0], second(50, _rng(3))[0])
    assert not torch.equal(first(50, _rng(3))[0], LEVELS.configure("importance", {"bins": 5})(cosine(100))(50, _rng(3))[0])
