"""What a factor does to a positive value, over all cells of a suite, with the variance between seeds pooled."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from ddpm_lab.reports.seed_noise import Pooled, pool_logs

SEEDS_FOR_P = 5  # with fewer, a p-value says more of luck than of the level


@dataclass(frozen=True)
class Results:
    """The values of a cell's seeds, and its level of each factor."""

    levels: Mapping[str, str]
    values: Sequence[float]

    @property
    def logs(self) -> list[float]:
        """Distances differ by factors, so their logarithms are what is compared."""
        return [math.log(value) for value in self.values]


def pool(cells: Sequence[Results]) -> Pooled:
    """From all cells with two seeds or more."""
    return pool_logs([cell.logs for cell in cells])


def typical(cell: Results, pooled: Pooled) -> dict[str, Any]:
    """The geometric mean over a cell's seeds and its interval."""
    mean = statistics.fmean(cell.logs)
    return {"value": math.exp(mean), "interval": _around(mean, pooled.half(1 / len(cell.values)))}


def effects(cells: Sequence[Results], factor: str) -> list[dict[str, Any]]:
    """How many times the value of the best level each other level has, best first.

    Two levels are compared where all other factors agree, and the ratios averaged over these pairs of cells, so that a cell
    that failed takes its partner out and favours nobody. A level without such a partner has no ratio. p-values (two-sided,
    Holm 1979 over the factor's pairs) are given where every cell has SEEDS_FOR_P seeds or more.
    """
    pooled = pool(cells)
    known = tuple(dict.fromkeys(cell.levels[factor] for cell in cells))
    levels = sorted(known, key=lambda level: _standing(cells, factor, level, known))
    rows = [{"level": levels[0], "ratio": 1.0, "interval": None, "pairs": 0}]
    for other in levels[1:]:
        difference, variance, pairs = _difference(cells, factor, other, levels[0])
        ratio = math.exp(difference) if pairs else None
        interval = _around(difference, pooled.half(variance)) if pairs else None
        rows.append({"level": other, "ratio": ratio, "interval": interval, "pairs": pairs})
    return rows


def _standing(cells: Sequence[Results], factor: str, level: str, levels: Sequence[str]) -> float:
    """The mean difference from all levels that it can be compared with; last, where there is none."""
    found = [_difference(cells, factor, level, other) for other in levels if other != level]
    matched = [difference for difference, _, pairs in found if pairs]
    return statistics.fmean(matched) if matched else math.inf if len(levels) > 1 else 0.0


def p_values(cells: Sequence[Results], factor: str) -> dict[str, float]:
    """`a, b` for each pair of levels; nothing where a cell has too few seeds."""
    if min(len(cell.values) for cell in cells) < SEEDS_FOR_P:
        return {}
    pooled, raw = pool(cells), dict[str, float]()
    for one, other in itertools.combinations(dict.fromkeys(cell.levels[factor] for cell in cells), 2):
        difference, variance, pairs = _difference(cells, factor, one, other)
        if pairs:
            t = difference / math.sqrt(variance * pooled.variance)
            raw[f"{one}, {other}"] = 2 * float(stats.t.sf(abs(t), pooled.freedom))
    adjusted, above = dict[str, float](), 0.0
    for rank, (pair, p) in enumerate(sorted(raw.items(), key=lambda item: item[1])):
        above = max(above, min(1.0, (len(raw) - rank) * p))
        adjusted[pair] = above
    return adjusted


def _difference(cells: Sequence[Results], factor: str, one: str, other: str) -> tuple[float, float, int]:
    """Mean difference of ln value over matched cells, its variance in units of that of one run, how many pairs."""

    def rest(cell: Results) -> tuple[tuple[str, str], ...]:
        return tuple(sorted((name, level) for name, level in cell.levels.items() if name != factor))

    sides = [{rest(cell): cell for cell in cells if cell.levels[factor] == level} for level in (one, other)]
    shared = [key for key in sides[0] if key in sides[1]]
    if not shared:
        return math.nan, math.nan, 0
    pairs = [(sides[0][key], sides[1][key]) for key in shared]
    difference = statistics.fmean(statistics.fmean(a.logs) - statistics.fmean(b.logs) for a, b in pairs)
    variance = sum(1 / len(a.values) + 1 / len(b.values) for a, b in pairs) / len(pairs) ** 2
    return difference, variance, len(pairs)


def _around(mean: float, half: float) -> tuple[float, float] | None:
    return (math.exp(mean - half), math.exp(mean + half)) if math.isfinite(half) else None
