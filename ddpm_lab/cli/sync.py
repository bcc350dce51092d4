"""Send W&B what it lacks of a run: rows, images, result, weights."""

from __future__ import annotations

import argparse

from ddpm_lab.cli.arguments import add


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab sync RUN`."""
    add(parser, "run")


def execute(arguments: argparse.Namespace) -> None:
    """Send it."""
    from ddpm_lab.tracking.tracker import sync

    sync(arguments.run)
