"""How much seeds differ: the variance of ln value between runs that differ in nothing else, pooled over all such groups."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats


@dataclass(frozen=True)
class Pooled:
    """The variance between seeds of ln value, the same in all groups, and its degrees of freedom."""

    variance: float
    freedom: int

    def half(self, factor: float, level: float = 0.95) -> float:
        """Half the interval of an estimate whose variance is `factor` times that of one run; infinite with one seed."""
        if self.freedom == 0:
            return math.inf
        return float(stats.t.ppf(0.5 + level / 2, self.freedom)) * math.sqrt(factor * self.variance)


def pool_logs(groups: Sequence[Sequence[float]]) -> Pooled:
    """From all groups of ln values with two seeds or more."""
    several = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in several)
    squares = sum((len(group) - 1) * statistics.variance(group) for group in several)
    return Pooled(squares / freedom if freedom else math.nan, freedom)
