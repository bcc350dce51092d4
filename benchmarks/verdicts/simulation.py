"""Verdicts on simulated pairs, many at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_lab.studies.confidence import EFFECT, widest

Numbers = NDArray[np.float64]


class Simulated(NamedTuple):
    """Of each verdict [V]: after how many pairs it ended, and whether it found a difference, or that there is none."""

    pairs: NDArray[np.int64]
    differs: NDArray[np.bool_]
    agrees: NDArray[np.bool_]


def verdicts(logs: Numbers, margin: float, alpha: float = 0.05, g: float = EFFECT) -> Simulated:
    """The verdicts on ln(B / A) [V, pairs], looked at after every pair; with a margin of 0 only a difference ends one."""
    count = np.arange(1, logs.shape[1] + 1)
    mean = logs.cumsum(1) / count
    squares = np.maximum((logs**2).cumsum(1) - count * mean**2, 0)
    limit = np.array([widest(int(n), alpha, g) for n in count])
    half = np.full_like(logs, np.inf)
    known = np.isfinite(limit)
    half[:, known] = (limit / np.sqrt(count * np.maximum(count - 1, 1)))[known] * np.sqrt(squares[:, known])
    differs, agrees = abs(mean) > half, abs(mean) + half < np.log1p(margin)
    ends = differs | agrees
    last = np.where(ends.any(1), ends.argmax(1), len(count) - 1)
    rows = np.arange(len(logs))
    return Simulated(last + 1, differs[rows, last], agrees[rows, last] & ~differs[rows, last])
