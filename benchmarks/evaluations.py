"""How few evaluations of the network do: samplers and grids from one run and one noise, against 1,000 ancestral steps.

make bench-evaluations RUN=results/latest      an hour on two cores; go on with the same command where it was stopped

Writes benchmarks/reports/evaluations/{report.json,report.md,evaluations.png}. What is known of a run stays in its folder.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from reporting import save_distances, surroundings, write_report

from ddpm_lab.config.part import Choice
from ddpm_lab.diffusion.build import build_data
from ddpm_lab.evaluation.evaluator import Evaluator
from ddpm_lab.inference.trained_run import Run
from ddpm_lab.reports.quality_curve import Point, known_points, measure_points, points
from registry.errors import BadInput

REPORT = Path("benchmarks/reports/evaluations")
N = 5000
WITHIN = 1.05
LONG = "ancestral/uniform", (1000,)  # sampler/grid, steps
SHORT = (
    ("dpmpp_2m/log_snr", (8, 10, 12, 15, 20)),
    ("dpmpp_2m/uniform", (10, 15, 20)),
    ("unipc/log_snr", (8, 10, 12, 15)),
    ("dpmpp_2m_sde/log_snr", (10, 15, 20)),
    ("dpmpp_2m_sde/clipped_log_snr", (10, 15)),
    ("dpmpp_3m_sde/clipped_log_snr", (8, 10, 12, 15, 20)),
    ("dpmpp_2m/clipped_log_snr", (10, 15)),
    ("heun/log_snr", (5, 8)),
    ("ddim/uniform", (10, 15, 50)),
    ("ancestral/uniform", (15, 50)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--short", action="store_true", help="leave out the 1,000 steps")
    arguments = parser.parse_args()
    run = Run(arguments.run)
    evaluator = Evaluator(Choice("fashion_cnn", {}), build_data(run.experiment), run.device)
    for name, steps in (*SHORT, *(() if arguments.short else (LONG,))):
        measure_points(run, [evaluator], _points(run, name, steps), "nfe", N)
        _report(run, evaluator)


def _points(run: Run, name: str, steps: Sequence[int]) -> list[Point]:
    return points(run, run.experiment.sampling, "nfe", [name], steps)


def _rows(run: Run, evaluator: Evaluator) -> list[dict[str, Any]]:
    """What is known of the ways above."""
    ways = (*SHORT, LONG) if run.experiment.timesteps >= LONG[1][0] else SHORT
    wanted = [point for name, steps in ways for point in _points(run, name, steps)]
    rows = []
    for row in filter(None, known_points(run, [evaluator], wanted, "nfe", N)):
        sampler, grid = row["curve"].removesuffix(" grid").split(", ")
        record = next(one for one in row["metrics"] if one["extractor"] == evaluator.name)
        about = {"sampler": sampler, "grid": grid, "steps": row["at"], "evaluations": row["evaluations"]}
        kept = {key: record[key] for key in ("value", "interval", "floor", "fingerprint")}
        rows.append(about | kept | {"seconds": row["seconds"]})
    return rows


def _report(run: Run, evaluator: Evaluator) -> None:
    rows = sorted(_rows(run, evaluator), key=lambda row: (row["sampler"], row["grid"], row["evaluations"]))
    long = next((row for row in rows if row["sampler"] == "ancestral" and row["steps"] == 1000), None)
    as_good = [row for row in rows if long and row["value"] <= WITHIN * long["value"]]
    found = {
        "rows": rows, "long": long, "n": N,
        "fewest": min(as_good, key=lambda row: (row["evaluations"], row["value"]), default=None),
        "images": run.experiment.train.images, "run": run.folder.path.parent.name, "within": WITHIN,
        "environment": surroundings(run.device), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    write_report(REPORT, "evaluations.md.jinja", found)
    _plot(rows, long)


def _plot(rows: list[dict[str, Any]], long: dict[str, Any] | None) -> None:
    _, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name in dict.fromkeys((row["sampler"], row["grid"]) for row in rows):
        own = [row for row in rows if (row["sampler"], row["grid"]) == name and row is not long]
        if own:
            axis.plot([row["evaluations"] for row in own], [row["value"] for row in own], "o-", label=", ".join(name))
    if long:
        axis.axhline(long["value"], color="black", linewidth=1, label="ancestral, 1,000 steps")
    save_distances(axis, rows[0]["floor"], "evaluations of the network for an image", N, REPORT / "evaluations.png")


if __name__ == "__main__":
    try:
        main()
    except BadInput as error:
        raise SystemExit(str(error)) from None
