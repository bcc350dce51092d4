"""Run a W&B sweep file on this machine, without an account."""

from __future__ import annotations

import argparse

from ddpm_lab.cli.arguments import add, add_overrides
from ddpm_lab.runtime import live_runs
from ddpm_lab.runtime.terminal import without_hangup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab sweep SWEEP`."""
    parser.add_argument("sweep", help="a name in ./experiments/sweeps, or a YAML file")
    add_overrides(parser, "for all trials, such as train.images=5000")
    add(parser, "--budget", "--results", "--device")


def execute(arguments: argparse.Namespace) -> None:
    """Run what is left of its trials."""
    with live_runs.announced():  # before torch
        from ddpm_lab.sweeps.sweep import Sweep

        with without_hangup():
            Sweep(arguments.sweep, arguments.overrides, arguments.budget, arguments.results, arguments.device).execute()
