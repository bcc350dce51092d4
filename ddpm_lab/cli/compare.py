"""Rank runs and .npz files by a metric, if all were measured by the same protocol."""

from __future__ import annotations

import argparse

from ddpm_lab.cli.arguments import add, count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab compare RUN ...`."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs' folders, or .npz files that were evaluated")
    parser.add_argument("--metric", help="such as KID or recall (default: FID)")
    parser.add_argument("--features", help="values in these features only, such as fashion_cnn")
    parser.add_argument("-n", type=count, metavar="N", help="values over so many images only")
    add(parser, "--json")


def execute(arguments: argparse.Namespace) -> None:
    """Print the ranking."""
    from ddpm_lab.reports import comparison
    from ddpm_lab.storage.json_text import to_json

    found = comparison.rank(arguments.runs, arguments.metric, arguments.features, arguments.n)
    print(to_json(comparison.plain_ranking(found), indent=2) if arguments.json else "\n".join(found.lines()))
