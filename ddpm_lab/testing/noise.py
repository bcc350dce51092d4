"""What schedules, levels and grids promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ddpm_lab.testing.promises import PATHS, probes, promised, require, require_same
from registry.levels import AdaptiveLevels, KnownLevels
from registry.path import NoisePath


@promised("schedules")
def schedules(make: Callable[[int], NoisePath]) -> None:
    for steps in (10, 200, 1000):
        path = make(steps)
        require(isinstance(path, NoisePath) and path.steps == steps, "a schedule gives a NoisePath of T knots")
        level = torch.linspace(0, steps - 1, 64, dtype=torch.float64)
        alpha, sigma = path.at(level)
        require(
            bool(((path.curve.length(alpha, sigma) - 1).abs() < 1e-9).all()),
            f"a {path.kind} path stays on its curve between the knots",
        )
        require(bool((path.log_snr(level).diff() < 0).all()), "the log SNR falls")
        inner = level[1:-1]
        require(bool(((path.level(path.log_snr(inner)) - inner).abs() < 1e-4).all()), "level undoes log_snr")


probes("schedules")(lambda make: make(200).angle)


@promised("levels")
def levels(make: Callable[[NoisePath], Any]) -> None:
    for path in PATHS.values():
        for count in (1, 64):
            levels = make(path)
            level, importance = levels(count, torch.Generator().manual_seed(1))
            again, _ = levels(count, torch.Generator().manual_seed(1))
            other, _ = levels(count, torch.Generator().manual_seed(2))
            require(level.shape == importance.shape == (count,), "levels and importance are [count]")
            require(level.dtype == torch.float64, "levels are float64")
            require(float(level.min()) >= 0 and float(level.max()) <= path.steps - 1, "levels lie in [0, T - 1]")
            require(bool((importance > 0).all()), "importance is positive")
            require_same(level, again, "what is sampled from the same generator")
            require(not torch.equal(level, other), "another generator gives other levels")
            if isinstance(levels, KnownLevels):
                density = levels.density(level)
                require(density.shape == level.shape and bool((density >= 0).all()), "a density is [count], and not negative")
            if isinstance(levels, AdaptiveLevels):
                levels.update(level, torch.ones(count))
                fresh = make(path)
                fresh.load_state_dict(levels.state_dict())
                require_same(
                    levels(8, torch.Generator().manual_seed(3))[0], fresh(8, torch.Generator().manual_seed(3))[0],
                    "what is sampled after the state was loaded",
                )  # fmt: skip
    _levels_density(make)


def _levels_density(make: Callable[[NoisePath], Any]) -> None:
    """What a density says of how many levels lie below each, against those that are sampled."""
    for kind, path in PATHS.items():
        levels = make(path)
        require(
            isinstance(levels, KnownLevels),
            "levels give their density over log SNR; without `density` they cannot be used with what is declared over log SNR",
        )
        level, _ = levels(4096, torch.Generator().manual_seed(4))
        level = level[levels.density(level).isfinite()].sort().values  # those that are not at one point, such as an end
        fine = torch.linspace(1e-6, path.steps - 1 - 1e-6, 20_001, dtype=torch.float64)
        per_level = (levels.density(fine) * -path.log_snr_slope(fine)).nan_to_num(0.0)
        below = torch.cumulative_trapezoid(per_level, fine)
        expected = below[(torch.searchsorted(fine, level) - 1).clamp(0, len(below) - 1)]
        found = torch.arange(1, len(level) + 1) / 4096
        # Kolmogorov and Smirnov: of 4096 levels 0.025 is exceeded by chance once in a hundred times, 0.04 once in a million.
        same = bool(((found - expected).abs() < 0.04).all()) and abs(float(below[-1]) - len(level) / 4096) < 0.04
        require(same, f"the density is that of the levels that are sampled, on a {kind} path")


@probes("levels")
def _probe_levels(make: Callable[[NoisePath], Any]) -> Tensor:
    levels = make(PATHS["variance_preserving"])
    for seed in range(40 if isinstance(levels, AdaptiveLevels) else 0):
        level, _ = levels(64, torch.Generator().manual_seed(seed))
        levels.update(level, level + seed)
    return torch.stack(levels(64, torch.Generator().manual_seed(0)))


@promised("grids")
def grids(make: Callable[[NoisePath, int], Tensor]) -> None:
    for count in (1, 2, 20):
        levels = make(PATHS["variance_preserving"], count)
        require(levels.shape == (count,) and levels.dtype == torch.float64, "a grid gives levels [count] in float64")
        require(bool((levels.diff() < 0).all()), "a grid goes down, noisiest first")
        require(float(levels[-1]) >= 0 and float(levels[0]) <= 49, "levels lie in [0, T - 1]")


probes("grids")(lambda make: make(PATHS["variance_preserving"], 12))
