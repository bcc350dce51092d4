"""How few evaluations of the network are enough: samplers and sampling schedules from one run and the same noise.

python -m benchmarks.nfe results/latest      about an hour on two cores; the same command resumes

The reference is 1,000 ancestral steps. Writes benchmarks/reports/nfe/{report.json,report.md,nfe.png}. What is known of a run
stays in its folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from benchmarks.common import command
from benchmarks.nfe.report import report
from ddpm_lab.diffusion.build import build_data
from ddpm_lab.evaluation.evaluator import Evaluator
from ddpm_lab.inference.curve_points import Point, known_points, measure_points, points
from ddpm_lab.inference.trained_run import Run
from registry.choice import Choice

N = 5000
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="a trained run, such as results/latest")
    parser.add_argument("--short", action="store_true", help="leave out the 1,000 ancestral steps")
    arguments = parser.parse_args()
    run = Run(arguments.run)
    evaluator = Evaluator(Choice("fashion_cnn", {}), build_data(run.experiment), run.device)
    for name, steps in (*SHORT, *(() if arguments.short else (LONG,))):
        measure_points(run, [evaluator], _points(run, name, steps), "nfe", N)
        report(run, _rows(run, evaluator), N)


def _points(run: Run, name: str, steps: Sequence[int]) -> list[Point]:
    return points(run, run.experiment.sampling, "nfe", [name], steps)


def _rows(run: Run, evaluator: Evaluator) -> list[dict[str, Any]]:
    """What is known of the samplers and steps above."""
    ways = (*SHORT, LONG) if run.experiment.timesteps >= LONG[1][0] else SHORT
    wanted = [point for name, steps in ways for point in _points(run, name, steps)]
    rows = []
    for row in filter(None, known_points(run, [evaluator], wanted, "nfe", N)):
        sampler, grid = row.curve.removesuffix(" grid").split(", ")
        record = row.value_of(evaluator.name)
        about = {"sampler": sampler, "grid": grid, "steps": row.at, "evaluations": row.evaluations}
        kept = {key: getattr(record, key) for key in ("value", "interval", "floor", "fingerprint")}
        rows.append(about | kept | {"seconds": row.seconds})
    return rows


if __name__ == "__main__":
    command.execute(main)
