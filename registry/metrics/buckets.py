"""The intervals of log SNR in which the error of a network is kept, and a mean over some of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

EDGES = tuple(float(edge) for edge in range(-8, 9, 2))  # of the log SNR: beyond them a network has nothing left to learn
BUCKETS = tuple(f"{low:g} to {high:g}" for low, high in pairwise(EDGES))


def covered(low: float, high: float) -> tuple[str, ...]:
    """The buckets that lie wholly on a path whose log SNR goes from `low` to `high`."""
    ends = zip(BUCKETS, pairwise(EDGES), strict=True)
    return tuple(bucket for bucket, (first, last) in ends if low <= first + 1e-9 and last - 1e-9 <= high)


def mean_over(
    buckets: Sequence[str], detail: Mapping[str, float], covariance: Sequence[Sequence[float]] | None
) -> tuple[float, tuple[float, float] | None]:
    """The mean over these buckets, one or more, and its 95 % interval; of one image, which has no covariance, none.

    The variance of the mean is the mean of the covariances between the buckets.
    """
    chosen = [BUCKETS.index(bucket) for bucket in buckets]
    value = math.fsum(detail[bucket] for bucket in buckets) / len(buckets)
    if covariance is None:
        return value, None
    variance = math.fsum(covariance[i][j] for i in chosen for j in chosen) / len(buckets) ** 2
    half = 1.96 * math.sqrt(max(variance, 0.0))
    return value, (value - half, value + half)
