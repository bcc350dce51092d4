"""Run a W&B sweep file on this machine, without an account."""

from __future__ import annotations

import argparse

from ddpm_lab.cli.arguments import add, add_overrides, count
from ddpm_lab.runtime import live_runs
from ddpm_lab.runtime.terminal import without_hangup
from registry.errors import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab sweep SWEEP`."""
    parser.add_argument("sweep", help="a name in ./experiments/sweeps, or a YAML file")
    add_overrides(parser, "for all trials, such as train.images=5000")
    parser.add_argument("--confirm", type=count, metavar="K", help="then run the best K trials again, with fresh seeds")
    parser.add_argument("--seeds", type=count, metavar="N", help="how many fresh seeds for each of them (default: 2)")
    add(parser, "--budget", "--results", "--device")


def execute(arguments: argparse.Namespace) -> None:
    """Run what is left of its trials."""
    if arguments.seeds and not arguments.confirm:
        raise BadInput(f"--seeds {arguments.seeds}: these are for trials that are run again; add --confirm 3")
    with live_runs.announced():  # before torch
        from ddpm_lab.sweeps.confirmation import SEEDS, Again
        from ddpm_lab.sweeps.sweep import Sweep

        again = Again(arguments.confirm, arguments.seeds or SEEDS) if arguments.confirm else None
        given = arguments.sweep, arguments.overrides, arguments.budget, arguments.results, arguments.device
        with without_hangup():
            Sweep(*given, again).execute()
