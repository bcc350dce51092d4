"""How far a distance of N images would be from its mean, had other N images been drawn: a corrected block jackknife."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

BLOCKS = 10


def jackknife_interval(distance: Callable[[Sequence[int]], float], blocks: int, level: float = 0.95) -> tuple[float, float]:
    """The interval for the expected distance at this N, around the distance of all images.

    `distance(left_out)` is that of the images without those blocks, scaled to nothing: what the fewer images give. The
    variance is the jackknife's less its second-order term (Efron & Stein 1981, section 5): close to the floor a Frechet
    distance is a quadratic form in what fluctuates, of which the plain jackknife counts the variance twice. A percentile
    bootstrap would be biased upward, because a resampled set is a distance away from the set that it was drawn from.
    """
    m = blocks
    whole = distance(())
    without = [distance((i,)) for i in range(m)]
    mean = sum(without) / m
    plain = (m - 1) / m * sum((value - mean) ** 2 for value in without)
    pairs = {
        (i, j): m * whole - (m - 1) * (without[i] + without[j]) + (m - 2) * distance((i, j))
        for i, j in itertools.combinations(range(m), 2)
    }
    middle = sum(pairs.values()) / len(pairs)
    second = (m - 1) / (m + 1) * sum((value - middle) ** 2 for value in pairs.values()) / m**2
    variance = max(plain - second, plain / m)
    half = _quantile(level, m - 1) * math.sqrt(variance)
    return whole - half, whole + half


def _quantile(level: float, freedom: int) -> float:
    """Of Student's t, two-sided."""
    from scipy import stats  # slow to import

    found: Any = stats.t.ppf(0.5 + level / 2, freedom)
    return float(found)
