"""Validate an experiment and estimate its cost; train nothing."""

from __future__ import annotations

import argparse

from ddpm_lab.cli.arguments import add, add_experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab check EXPERIMENT`."""
    add_experiment(parser)
    parser.add_argument("--full", action="store_true", help="also the whole experiment, every default filled in, as YAML")
    add(parser, "--json")


def execute(arguments: argparse.Namespace) -> None:
    """Print what was found, line by line."""
    from ddpm_lab.config.load import load_recipe
    from ddpm_lab.runner import preflight
    from ddpm_lab.storage.json_text import to_json

    recipe = load_recipe(arguments.experiment, arguments.overrides, arguments.budget)
    if arguments.json:
        print(to_json(preflight.facts(recipe, arguments.device, arguments.full), indent=2))
        return
    for line in preflight.lines(recipe, arguments.device, arguments.full):
        print(line)
