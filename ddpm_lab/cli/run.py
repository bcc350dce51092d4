"""Train an experiment, sample, evaluate, report."""

from __future__ import annotations

import argparse
import os

from ddpm_lab.cli.arguments import add, add_experiment
from ddpm_lab.runtime import live_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab run EXPERIMENT`."""
    add_experiment(parser)
    add(parser, "--results")
    parser.add_argument("--id", help="name the run, or resume it (default: the sweep agent's, or a random one)")
    parser.add_argument("--resume", action="store_true", help="resume its newest unfinished run, if there is one")


def execute(arguments: argparse.Namespace) -> None:
    """Run it, unless a run of that id is finished already."""
    # Before torch, which takes a second or two: runs that start together then know of each other when they choose threads.
    with live_runs.announced():
        _execute(arguments)


def _execute(arguments: argparse.Namespace) -> None:
    from ddpm_lab.config.load import load_recipe
    from ddpm_lab.runner.run import train

    recipe = load_recipe(arguments.experiment, arguments.overrides, arguments.budget)
    # A sweep's agent names the run; it hands a trial that was preempted out again under the same name.
    option, run_id = "--id", arguments.id
    if run_id is None and "WANDB_SWEEP_ID" in os.environ:
        option, run_id = "WANDB_RUN_ID", os.environ.get("WANDB_RUN_ID") or None
    train(recipe, arguments.results, arguments.device, resume=arguments.resume, run_id=run_id, option=option)
