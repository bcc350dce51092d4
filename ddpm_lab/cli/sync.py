"""Send W&B what it lacks of a run: rows, images, result, weights."""

from __future__ import annotations

import argparse

from ddpm_lab.cli.arguments import add_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab sync RUN`."""
    add_run(parser)


def execute(arguments: argparse.Namespace) -> None:
    """Send it."""
    from ddpm_lab.tracking.tracker import sync

    sync(arguments.run)
