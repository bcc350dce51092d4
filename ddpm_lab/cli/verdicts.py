"""List the verdicts of a results folder, all of them."""

from __future__ import annotations

import argparse

from ddpm_lab.cli.arguments import add


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab verdicts`."""
    add(parser, "--results", "--json")


def execute(arguments: argparse.Namespace) -> None:
    """Print them, in the order in which they were begun."""
    from ddpm_lab.storage.json_text import to_json
    from ddpm_lab.storage.measurement import plain
    from ddpm_lab.studies import verdict_file

    known = verdict_file.read(arguments.results)
    print(to_json(plain(known), indent=2) if arguments.json else "\n".join(verdict_file.lines(known, arguments.results)))
