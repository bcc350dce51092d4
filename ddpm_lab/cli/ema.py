"""Make averages of other lengths from a run's snapshots of power-function averages."""

from __future__ import annotations

import argparse

from ddpm_lab.cli.arguments import add


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab ema RUN --std STD ...`."""
    add(parser, "run")
    parser.add_argument("--std", type=float, nargs="+", required=True, help="relative standard deviations, such as 0.08")


def execute(arguments: argparse.Namespace) -> None:
    """Write them into the run's folder."""
    from ddpm_lab.inference.post_hoc_ema import reconstruct
    from ddpm_lab.inference.trained_run import Run
    from ddpm_lab.runtime.console import say

    for line in reconstruct(Run(arguments.run, "cpu"), arguments.std):
        say(line)
