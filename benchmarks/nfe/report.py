"""The report of quality against evaluations of the network."""

from __future__ import annotations

import time
from typing import Any

import matplotlib.pyplot as plt

from benchmarks.common.reporting import REPORTS, save_distances, surroundings, write_report
from ddpm_lab.inference.trained_run import Run

WITHIN = 1.05  # times the FID of the reference


def report(run: Run, rows: list[dict[str, Any]], n: int) -> None:
    """Write the table and the figure of `rows`, measured with `n` images each."""
    rows = sorted(rows, key=lambda row: (row["sampler"], row["grid"], row["evaluations"]))
    long = next((row for row in rows if row["sampler"] == "ancestral" and row["steps"] == 1000), None)
    as_good = [row for row in rows if long and row["value"] <= WITHIN * long["value"]]
    found = {
        "rows": rows, "long": long, "n": n,
        "fewest": min(as_good, key=lambda row: (row["evaluations"], row["value"]), default=None),
        "images": run.experiment.train.images, "run": run.folder.path.parent.name, "within": WITHIN,
        "environment": surroundings(run.device), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    write_report("nfe", found)
    _plot(rows, long, n)


def _plot(rows: list[dict[str, Any]], long: dict[str, Any] | None, n: int) -> None:
    _, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name in dict.fromkeys((row["sampler"], row["grid"]) for row in rows):
        own = [row for row in rows if (row["sampler"], row["grid"]) == name and row is not long]
        if own:
            axis.plot([row["evaluations"] for row in own], [row["value"] for row in own], "o-", label=", ".join(name))
    if long:
        axis.axhline(long["value"], color="black", linewidth=1, label="ancestral, 1,000 steps")
    save_distances(axis, rows[0]["floor"], "evaluations of the network for an image", n, REPORTS / "nfe/nfe.png")
