"""Levels: where they lie and how they are spread."""

import pytest
import torch

from registry.levels.stratified import Stratified
from registry.levels.uniform import Uniform


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", [Uniform, Stratified])
def test_levels_are_real_numbers_that_fill_the_path(kind: type) -> None:
    level, importance = kind(1000)(20_000, _rng())
    assert 0 <= float(level.min()) < 1
    assert 998 < float(level.max()) <= 999
    assert float(level.mean()) == pytest.approx(499.5, abs=8)
    assert float(level.std()) == pytest.approx(999 / 12**0.5, rel=0.02)
    assert not torch.equal(level, level.round())
    assert bool((importance == 1).all())


@pytest.mark.parametrize("kind", [Uniform, Stratified])
def test_the_generator_decides(kind: type) -> None:
    assert torch.equal(kind(100)(8, _rng())[0], kind(100)(8, _rng())[0])
    assert not torch.equal(kind(100)(8, _rng())[0], kind(100)(8, _rng(1))[0])


def test_stratified_puts_one_level_in_each_stratum_in_no_order() -> None:
    for seed in range(20):
        level, _ = Stratified(1000)(64, _rng(seed))
        assert (level / 999 * 64).floor().clamp(max=63).sort().values.tolist() == list(range(64))
        assert not torch.equal(level, level.sort().values)
