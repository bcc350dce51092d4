"""Write a run's network to a folder of its own: safetensors, a model card, for diffusers too."""

from __future__ import annotations

import argparse
from pathlib import Path

from ddpm_lab.cli.arguments import add


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab export RUN DIRECTORY`."""
    add(parser, "run")
    parser.add_argument("directory", type=Path, help="a new folder")
    add(parser, "--weights")
    parser.add_argument("--licence", help="of the weights, for the model card, such as MIT")


def execute(arguments: argparse.Namespace) -> None:
    """Write the folder."""
    from ddpm_lab.export import export
    from ddpm_lab.inference.trained_run import Run
    from ddpm_lab.runtime.console import say

    for line in export(Run(arguments.run, "cpu"), arguments.weights, arguments.directory, arguments.licence):
        say(line)
