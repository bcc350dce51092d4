"""The report of the third-order term: ratios of FIDs, averaged over the runs."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

from scipy import stats

from benchmarks.common.reporting import surroundings, write_report

FEWEST = 3  # runs from which an interval is computed


def report(rows: list[dict[str, Any]], cells: Sequence[tuple[str, int]], n: int) -> None:
    """Compare both terms in each cell (sampling schedule, steps), and write the tables."""
    found = {
        "rows": rows, "ratios": [_ratio(rows, *cell) for cell in cells], "n": n,
        "pairs": [pair for cell in cells for pair in _pairs(rows, *cell)],
        "environment": surroundings(), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    write_report("third_order", found)


def _pairs(rows: Sequence[dict[str, Any]], grid: str, steps: int) -> list[dict[str, Any]]:
    """Both values of each run that has both, and their ratio."""
    here = [row for row in rows if (row["grid"], row["steps"]) == (grid, steps)]
    published = {row["weights"]: row for row in here if row["published"]}
    return [
        {**row, "half": published[row["weights"]]["value"], "ratio": row["value"] / published[row["weights"]]["value"]}
        for row in here
        if not row["published"] and row["weights"] in published
    ]


def _ratio(rows: Sequence[dict[str, Any]], grid: str, steps: int) -> dict[str, Any]:
    """The FID of the full term over that of the half: geometric mean over the runs and its 95 % interval (Student's t)."""
    logs = [math.log(pair["ratio"]) for pair in _pairs(rows, grid, steps)]
    if len(logs) < FEWEST:
        return {"grid": grid, "steps": steps, "runs": len(logs), "ratio": None, "interval": None}
    mean, error = statistics.fmean(logs), statistics.stdev(logs) / math.sqrt(len(logs))
    half = float(stats.t.ppf(0.975, len(logs) - 1)) * error
    around = [math.exp(mean - half), math.exp(mean + half)]
    return {"grid": grid, "steps": steps, "runs": len(logs), "ratio": math.exp(mean), "interval": around}
