"""How few evaluations of the network do: samplers and grids from one run and one noise, against 1,000 ancestral steps.

make bench-evaluations RUN=results/latest      an hour on two cores; go on with the same command where it was stopped

Writes benchmarks/reports/evaluations/{report.json,report.md,evaluations.png}. What is known of a run stays in its folder.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from reporting import save_distances, surroundings, write_report

from ddpm_lab.build import build_data
from ddpm_lab.choice import Choice
from ddpm_lab.evaluate import Evaluator, evaluate_images
from ddpm_lab.files import write_text
from ddpm_lab.loaded import Run

REPORT = Path("benchmarks/reports/evaluations")
N = 5000
WITHIN = 1.05
LONG = {"sampler": "ancestral", "grid": "uniform", "steps": 1000}
EACH = {"heun": 2}  # evaluations for a step; one for all others
SHORT = [
    {"sampler": sampler, "grid": grid, "steps": steps}
    for sampler, grid, counts in (
        ("dpmpp_2m", "log_snr", (8, 10, 12, 15, 20)),
        ("dpmpp_2m", "uniform", (10, 15, 20)),
        ("unipc", "log_snr", (8, 10, 12, 15)),
        ("dpmpp_2m_sde", "log_snr", (10, 15, 20)),
        ("dpmpp_2m_sde", "uniform", (15, 20)),
        ("ddim", "uniform", (10, 15, 20, 50)),
        ("ancestral", "uniform", (15, 50, 100)),
        ("heun", "log_snr", (6, 8)),
    )
    for steps in counts
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--short", action="store_true", help="leave out the 1,000 steps")
    arguments = parser.parse_args()
    run = Run(arguments.run)
    evaluator = Evaluator(Choice("fashion_cnn", {}), build_data(run.experiment), run.device)
    for way in (*SHORT, *(() if arguments.short else (LONG,))):
        _measure(run, evaluator, way)
        _report(run)


def _kept(run: Run) -> Path:
    return run.folder.path / "evaluations.json"


def _known(run: Run) -> list[dict[str, Any]]:
    return json.loads(_kept(run).read_text()) if _kept(run).exists() else []


def _measure(run: Run, evaluator: Evaluator, way: dict[str, Any]) -> None:
    known = _known(run)
    if any({key: row[key] for key in way} == way for row in known):
        return
    words = [f"sampling.sampler={way['sampler']}", f"sampling.grid={way['grid']}", f"sampling.steps={way['steps']}"]
    there = Run(run.folder.path, str(run.device), words)
    sampling, start = there.experiment.sampling, time.monotonic()
    drawing = there.drawing(sampling)
    batches = drawing.images(N, sampling.seed, sampling.batch, drawing.labels(N))
    results = evaluate_images([evaluator], batches, N, there.generation(sampling, sampling.seed))
    fid = next(result for result in results if result["metric"] == "FID")
    row = {
        **way, "evaluations": way["steps"] * EACH.get(way["sampler"], 1), "fid": fid["value"], "floor": fid["floor"],
        "fingerprint": fid["fingerprint"], "seconds": time.monotonic() - start,
    }  # fmt: skip
    write_text(_kept(run), json.dumps([*known, row], indent=2) + "\n")
    print(row, flush=True)


def _report(run: Run) -> None:
    rows = sorted(_known(run), key=lambda row: (row["sampler"], row["grid"], row["evaluations"]))
    long = next((row for row in rows if row["sampler"] == LONG["sampler"] and row["steps"] == LONG["steps"]), None)
    as_good = [row for row in rows if long and row["fid"] <= WITHIN * long["fid"]]
    found = {
        "rows": rows, "long": long, "fewest": min(as_good, key=lambda row: row["evaluations"]) if as_good else None, "n": N,
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
            axis.plot([row["evaluations"] for row in own], [row["fid"] for row in own], "o-", label=", ".join(name))
    if long:
        axis.axhline(long["fid"], color="black", linewidth=1, label="ancestral, 1,000 steps")
    save_distances(axis, rows[0]["floor"], "evaluations of the network for an image", N, REPORT / "evaluations.png")


if __name__ == "__main__":
    main()
