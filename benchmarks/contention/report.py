"""The report of several runs on one machine: medians, and ratios of medians with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.common.reporting import write_report
from benchmarks.common.timing import spread

RESAMPLES = 10_000


def ratio_with_interval(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Of the medians, with a 95 % percentile bootstrap over the alternations, which both share."""
    pairs = np.array([ours, theirs])
    chosen = np.random.default_rng(0).integers(0, pairs.shape[1], (RESAMPLES, pairs.shape[1]))
    ratios = np.divide(*np.median(pairs[:, chosen], axis=2))
    low, high = np.quantile(ratios, (0.025, 0.975))
    return {"ratio": float(np.divide(*np.median(pairs, axis=1))), "low": float(low), "high": float(high)}


def report(found: dict[str, Any], marks: Mapping[str, float | None]) -> None:
    """Write the table of all alternations so far."""
    rounds = found["rounds"]
    # The slowest run of each alternation: the mark holds for each of them.
    least = {key: [min(rates) for rates in (one[key] for one in rounds)] for key in rounds[0]}
    rows = []
    for case, mark in marks.items():
        before, now = (least[f"{case}, {arm}"] for arm in ("before", "now"))
        base = least["alone, before"]
        rows.append({
            "case": case, "mark": mark, "threads": found["threads"][f"{case}, now"], "before": spread(before),
            "now": spread(now), "of_alone_before": ratio_with_interval(before, base),
            "of_alone": ratio_with_interval(now, base), "gain": ratio_with_interval(now, before),
        })  # fmt: skip
    write_report("contention", found | {"rows": rows, "n": len(rounds)})
