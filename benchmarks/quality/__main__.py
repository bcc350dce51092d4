"""FID against training time: the default recipe and each peer's own, on the same cores and data, evaluated by one protocol.

python -m benchmarks.quality                    all programs, hours on two cores; the same command resumes
python -m benchmarks.quality lab annotated      some of them; the report has what there is so far

Writes benchmarks/reports/quality/{report.json,report.md,quality.png}. What it resumes from is in results/bench/quality.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from benchmarks.common import command
from benchmarks.common.reporting import RECIPE
from benchmarks.quality.program import MARKS, WORK
from benchmarks.quality.report import LENGTHS, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "programs",
        nargs="*",
        default=["lab", *MARKS],
        metavar="PROGRAM",
        help=f"some of lab, {', '.join(MARKS)} (default: all)",
    )
    arguments = parser.parse_args()
    for name in arguments.programs:
        if name == "lab":
            for images in LENGTHS:
                _run_lab(images)
        else:
            _alone("train", name)
    for turn in range(2):
        for name in arguments.programs:
            if name != "lab":
                _alone("sample", name, str(MARKS[name][turn]))
            report()


def _alone(*words: str) -> None:
    """In a process of its own: no program changes the threads or the memory of another."""
    subprocess.run([sys.executable, "-m", "benchmarks.quality.program", *words], check=True)


def _run_lab(images: int) -> None:
    words = ["run", RECIPE, f"train.images={images}", "evaluate.every=null", "train.samples_every=null", "track=none"]
    place = ["--id", f"images-{images}", "--results", os.fspath(WORK)]
    subprocess.run([sys.executable, "-m", "ddpm_lab", *words, *place], check=True)


if __name__ == "__main__":
    command.execute(main)
