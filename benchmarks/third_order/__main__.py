"""Whether the full third-order term of `dpmpp_3m_sde` or the published half of it gives better images in few stochastic steps.

python -m benchmarks.third_order results/cosine_l2/x results/flow/y ...      some minutes a run on two cores, resumable

Every run is sampled both ways, from the same noise, and evaluated; the ratio of the two FIDs is averaged over the runs.
Writes benchmarks/reports/third_order/{report.json,report.md}, after every value.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

from benchmarks.common import command
from benchmarks.common.reporting import last_report
from benchmarks.third_order.report import report
from ddpm_lab.diffusion.build import build_data
from ddpm_lab.evaluation.evaluator import Evaluator, measure
from ddpm_lab.inference.trained_run import Run
from ddpm_lab.storage.files import sha256
from registry.choice import Choice
from registry.errors import BadInput
from registry.metrics.interval import BLOCKS

N = 2000
STEPS = (15, 20)
GRIDS = ("clipped_log_snr", "log_snr")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="trained runs, at least three")
    rows = last_report("third_order").get("rows", [])
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
            sampler = way.sampler(sampling)
        except BadInput as error:  # a path that ends in pure noise has no such schedule
            print(f"left out: {name}, {grid}: {error}")
            continue
        evaluator = evaluator or Evaluator(Choice("fashion_cnn", {}), build_data(run.experiment), run.device)
        (measured,) = measure(
            [evaluator], sampler.images(N, sampling.seed, sampling.batch, None), N, "evaluating", blocks=BLOCKS
        )
        record = evaluator.main_result(measured, way.generation(sampling, sampling.seed))
        parts = ("value", "interval", "floor", "fingerprint", "generation")
        rows.append(about | key | {part: getattr(record, part) for part in parts})
        print(f"{about['experiment']}, {grid}, {steps} steps, published {published}: FID {record.value:.4f}")
        report(rows, list(itertools.product(GRIDS, STEPS)), N)


if __name__ == "__main__":
    command.execute(main)
