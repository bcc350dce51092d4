"""What is declared over log SNR weighs the log SNR as declared, with every levels part on every path.

The effective weight of a bucket is what a batch makes of it: the mean of importance times weight, where the images of other
buckets count as 0. It is held against the integral of the declared weight over the part of the bucket that lies on the path,
where enough levels are sampled to tell.
"""

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_lab.diffusion.model import Objective
from ddpm_lab.diffusion.process import Diffusion
from registry.errors import BadInput
from registry.levels import LEVELS, AdaptiveLevels, Levels
from registry.losses import LOSSES
from registry.objectives.denoising import denoising
from registry.path import NoisePath
from registry.schedules import SCHEDULES
from registry.targets import TARGETS
from registry.weightings import WEIGHTINGS, Weighting, per_log_snr

DRAWS = 20_000
EDGES = np.linspace(-6, 6, 13)  # of log SNR
PATHS: dict[str, NoisePath] = {part.name: SCHEDULES.configure(part.name, {})(1000) for part in SCHEDULES}
# In the space of the error that the weighting declares: Hoogeboom et al. 2024, eq. 9, with b = 2.
DECLARED: dict[str, Callable[[np.ndarray], np.ndarray]] = {"sigmoid": lambda log_snr: 0.5 / (1 + np.exp(log_snr - 2))}


class UnitGain:
    """No target: the weight as it is declared, before it is converted."""

    def gain(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(alpha), torch.ones_like(alpha)


def _objective(levels: Levels, weighting: str) -> Objective:
    return Objective(levels, LOSSES.configure("l2", {}), WEIGHTINGS.configure(weighting, {})(0.7), denoising)


@cache
def _levels(name: str, path: str) -> Levels:
    made: Levels = LEVELS.configure(name, {"bins": 20} if name == "importance" else {})(PATHS[path])
    if isinstance(made, AdaptiveLevels):
        level, _ = made(2000, torch.Generator().manual_seed(0))  # all bins are full
        made.update(level, 3 - 2 * level / 999)
        assert float(made(1000, torch.Generator())[1].std()) > 0.1, "it does not sample uniformly"
    return made


def _require_alike(log_snr: Tensor, value: Tensor, intended: np.ndarray) -> None:
    """The mean of `value` in each bucket is the intended one, within five standard errors and 1 % of the largest."""
    inside = np.stack([(log_snr >= low) & (log_snr < high) for low, high in pairwise(EDGES)])
    each = inside * value.double().numpy()
    found, error = each.mean(1), each.std(1) / len(log_snr) ** 0.5
    telling = (inside.sum(1) >= 500) & (error < 0.1 * intended)
    assert telling.sum() >= 2
    excess = np.abs(found - intended) - 5 * error - 0.01 * intended.max()
    assert (excess[telling] < 0).all(), f"{found / intended} times as much as intended"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", [part.name for part in LEVELS])
def test_the_effective_weight_is_the_declared_one(name: str, path: str) -> None:
    walked, levels = PATHS[path], _levels(name, path)
    level, importance = levels(DRAWS, torch.Generator().manual_seed(7))
    log_snr = walked.log_snr(level)
    lowest, highest = (float(walked.log_snr(torch.tensor(end))) for end in (999.0, 0.0))
    for weighting, declared in DECLARED.items():
        weight = _objective(levels, weighting).weight(Diffusion(walked, UnitGain()), level, importance)  # type: ignore[arg-type]
        parts = [np.linspace(max(low, lowest), max(min(high, highest), low, lowest), 2001) for low, high in pairwise(EDGES)]
        _require_alike(log_snr, importance * weight, np.array([np.trapezoid(declared(part), part) for part in parts]))
    # The bound is a sum over levels: a bucket counts by how many levels it has.
    weight = _objective(levels, "constant").bound_weight(walked, level, importance)
    _require_alike(log_snr, importance * weight, -np.diff(walked.level(torch.from_numpy(EDGES)).numpy()))


def test_each_weighting_over_log_snr_is_looked_at() -> None:
    made = [WEIGHTINGS.configure(part.name, {})(0.7) for part in WEIGHTINGS]
    assert {part.name for part, one in zip(WEIGHTINGS, made, strict=True) if per_log_snr(one)} == set(DECLARED)


def test_what_belongs_to_the_levels_of_its_recipe_is_not_divided() -> None:
    level, importance = torch.linspace(1, 998, 50, dtype=torch.float64), torch.ones(50, dtype=torch.float64)
    for name in ("constant", "snr", "min_snr", "soft_min_snr", "p2", "edm"):
        diffusion = Diffusion(PATHS["cosine"], TARGETS.configure("epsilon", {})(0.7))
        weights = [
            _objective(_levels(levels, "cosine"), name).weight(diffusion, level, importance)
            for levels in ("uniform", "lognormal")
        ]
        assert torch.equal(*weights), name


def test_levels_without_a_density_are_refused_where_it_is_needed_and_only_there() -> None:
    class Middle:
        def __call__(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
            return torch.full((count,), 500.0, dtype=torch.float64), torch.ones(count, dtype=torch.float64)

    diffusion = Diffusion(PATHS["cosine"], TARGETS.configure("epsilon", {})(0.7))
    level, importance = Middle()(3, torch.Generator())
    assert _objective(Middle(), "constant").weight(diffusion, level, importance).tolist() == [1, 1, 1]
    with pytest.raises(BadInput, match="Middle has no density"):
        _objective(Middle(), "sigmoid").weight(diffusion, level, importance)
    with pytest.raises(BadInput, match="Middle has no density"):
        _objective(Middle(), "constant").bound_weight(diffusion.path, level, importance)


def test_a_weighting_that_says_nothing_of_log_snr_is_taken_as_it_is() -> None:
    class Mine:
        space = "eps"

    assert not per_log_snr(Mine())
    assert not Weighting.per_log_snr
