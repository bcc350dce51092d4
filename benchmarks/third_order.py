"""Whether the full third-order term of `dpmpp_3m_sde` or the published half of it gives better images in few stochastic steps.

make bench-third-order RUNS="results/cosine_l2/x results/flow/y ..."      some minutes a run on two cores, resumable

Every run is sampled both ways, from the same noise, and evaluated; the ratio of the two FIDs is averaged over the runs.
Writes benchmarks/reports/third_order/{report.json,report.md}, after every value.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reporting import surroundings, write_report
from scipy import stats

from ddpm_lab.config.part import Choice
from ddpm_lab.diffusion.build import build_data
from ddpm_lab.evaluation.evaluator import Evaluator, measure
from ddpm_lab.evaluation.interval import BLOCKS
from ddpm_lab.inference.trained_run import Run
from ddpm_lab.storage.files import sha256
from registry.errors import BadInput

REPORT = Path("benchmarks/reports/third_order")
N = 2000
STEPS = (15, 20)
GRIDS = ("clipped_log_snr", "log_snr")
FEWEST = 3  # runs from which an interval is computed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    rows = _known()
    runs = parser.parse_args().runs
    for grid, steps, name in itertools.product(GRIDS, STEPS, runs):
        _measure(name, grid, steps, rows)


def _measure(name: str, grid: str, steps: int, rows: list[dict[str, Any]]) -> None:
    """The rows of one run, sampled so, that are not known yet."""
    run = Run(name)
    weights = sha256(run.folder.weights(run.weights_of(run.experiment.sampling)))
    about = {"experiment": run.folder.path.parent.name, "seed": run.experiment.seed, "images": run.experiment.train.images}
    evaluator: Evaluator | None = None
    for published in (True, False):
        key = {"weights": weights, "grid": grid, "steps": steps, "published": published}
        if any(key.items() <= row.items() for row in rows):
            continue
        sampler = f"sampling.sampler={{name: dpmpp_3m_sde, published: {str(published).lower()}}}"
        way = Run(name, None, [sampler, f"sampling.grid={grid}", f"sampling.steps={steps}"])
        sampling = way.experiment.sampling
        try:
            drawing = way.drawing(sampling)
        except BadInput as error:  # a path that ends in pure noise has no such schedule
            print(f"left out: {name}, {grid}: {error}")
            continue
        evaluator = evaluator or Evaluator(Choice("fashion_cnn", {}), build_data(run.experiment), run.device)
        (measured,) = measure(
            [evaluator], drawing.images(N, sampling.seed, sampling.batch, None), N, "evaluating", blocks=BLOCKS
        )
        record = evaluator.distance(measured, way.generation(sampling, sampling.seed))
        rows.append(about | key | {part: record[part] for part in ("value", "interval", "floor", "fingerprint", "generation")})
        print(f"{about['experiment']}, {grid}, {steps} steps, published {published}: FID {record['value']:.4f}")
        _report(rows)


def _known() -> list[dict[str, Any]]:
    file = REPORT / "report.json"
    return json.loads(file.read_text())["rows"] if file.is_file() else []


def _report(rows: list[dict[str, Any]]) -> None:
    found = {
        "rows": rows, "ratios": [_ratio(rows, grid, steps) for grid in GRIDS for steps in STEPS], "n": N,
        "environment": surroundings(), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    found["pairs"] = [pair for grid in GRIDS for steps in STEPS for pair in _pairs(rows, grid, steps)]
    write_report(REPORT, "third_order.md.jinja", found)


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


if __name__ == "__main__":
    try:
        main()
    except BadInput as error:
        raise SystemExit(str(error)) from None
