"""Write a run's network to a folder of its own: safetensors, a model card, for diffusers too."""

from __future__ import annotations

import argparse
from pathlib import Path

from ddpm_lab.cli.arguments import add_run, add_weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab export RUN DIRECTORY`."""
    add_run(parser)
    parser.add_argument("directory", type=Path, help="a new folder")
    add_weights(parser)


def execute(arguments: argparse.Namespace) -> None:
    """Write the folder."""
    from ddpm_lab.export import export
    from ddpm_lab.inference.sampling_overrides import changed
    from ddpm_lab.inference.trained_run import Run
    from ddpm_lab.runtime.console import say

    run = Run(arguments.run, "cpu")
    sampling = run.experiment.sampling
    if arguments.weights is not None:
        sampling = changed(run, sampling, weights=arguments.weights)
    for line in export(run, sampling, arguments.directory):
        say(line)
