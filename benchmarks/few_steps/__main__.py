"""FID after 1, 2, 4, 8 and 15 evaluations of the network, for runs that were trained for few steps.

python -m benchmarks.few_steps results/distilled/* results/consistency/* ...      a minute a run on two cores, resumable

Runs of one experiment that differ in the seed are one row: the geometric mean, and its 95 % interval over seeds, or of one run
over images. Each run samples as its experiment does, in other numbers of steps. Writes the report, the table of
docs/few-steps.md, and a picture of each experiment from the same noise.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import ddpm_lab
from benchmarks.common import command
from benchmarks.common.reporting import REPORTS, last_report, write_table
from ddpm_lab.diffusion.build import build_data
from ddpm_lab.evaluation.evaluator import Evaluator
from ddpm_lab.inference.curve_points import measure_points, points
from ddpm_lab.reports.seed_noise import pool_logs
from ddpm_lab.storage.images import save_grid
from ddpm_lab.storage.json_text import write_json
from ddpm_lab.storage.measurement import plain, read_result
from registry.choice import Choice

N, STEPS, SHOWN = 2000, (1, 2, 4, 8, 15), 10
PAGE, PICTURES = Path("docs/few-steps.md"), Path("docs/few-steps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="finished runs")
    rows: list[dict[str, Any]] = last_report("few_steps").get("rows", [])
    known = {row["run"] for row in rows}
    for name in parser.parse_args().runs:
        run = ddpm_lab.load(name)
        if run.folder.id not in known:
            rows.append(_measured(run))
        for folder in (REPORTS / "few_steps", PICTURES):
            folder.mkdir(parents=True, exist_ok=True)
        write_json(REPORTS / "few_steps/report.json", {"n": N, "rows": rows})
        write_table(PAGE, "few steps", _table(rows))
        _picture(run, PICTURES / f"{run.folder.path.parent.name}.png")


def _measured(run: ddpm_lab.Run) -> dict[str, Any]:
    experiment, result = run.experiment, read_result(run.folder.result)
    evaluator = Evaluator(Choice("fashion_cnn", {}), build_data(experiment), run.device)
    found = measure_points(run, [evaluator], points(run, experiment.sampling, "nfe", _own(run), STEPS), "nfe", N)
    return {
        "run": run.folder.id, "experiment": run.folder.path.parent.name, "seed": experiment.seed,
        "parameters": result.parameters, "images": result.images_in_all, "seconds": result.training_in_all,
        "threads": experiment.train.threads, "points": [plain(one) for one in found],
    }  # fmt: skip


def _own(run: ddpm_lab.Run) -> list[str]:
    sampling = run.experiment.sampling
    return [f"{sampling.sampler.name}/{sampling.grid.name}"]


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """A row for each experiment, its values by numbers of evaluations."""
    lines = [f"| experiment | seeds | images in all | {' | '.join(map(str, STEPS))} |", "| --- " * (len(STEPS) + 3) + "|"]
    for name in sorted({row["experiment"] for row in rows}):
        own = [row for row in rows if row["experiment"] == name]
        cells = [_cell([row["points"][column]["metrics"][0] for row in own]) for column in range(len(STEPS))]
        seeds = ", ".join(str(row["seed"]) for row in sorted(own, key=lambda row: int(row["seed"])))
        lines.append(f"| `{name}` | {seeds} | {own[0]['images']:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(records: Sequence[dict[str, Any]]) -> str:
    logs = [math.log(one["value"]) for one in records]
    mean, half = statistics.fmean(logs), pool_logs([logs]).half(1 / len(logs))
    low, high = (math.exp(mean - half), math.exp(mean + half)) if len(logs) > 1 else records[0]["interval"]
    return f"{math.exp(mean):.3f} ({low:.3f} to {high:.3f})"


def _picture(run: ddpm_lab.Run, file: Path) -> None:
    """A row for each number of evaluations, the same noise in each column."""
    images = [run.sample(SHOWN, steps=steps, seed=1) for steps in STEPS]
    save_grid(file, torch.cat(images), columns=SHOWN)


if __name__ == "__main__":
    command.execute(main)
