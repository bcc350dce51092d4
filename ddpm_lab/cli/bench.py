"""Run a suite, experiments x seeds, and compare them in one report."""

from __future__ import annotations

import argparse
from pathlib import Path

from ddpm_lab.cli.arguments import add
from ddpm_lab.runtime import live_runs
from ddpm_lab.runtime.terminal import without_hangup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab bench SUITE`."""
    parser.add_argument("suite", help="a name in ./benchmarks/suites, or a YAML file")
    parser.add_argument("--report", action="store_true", help="run nothing; report what there is")
    add(parser, "--results")
    parser.add_argument(
        "--reports", type=Path, help="where reports go (default: benchmarks/reports; without ./benchmarks, beside the runs)"
    )
    add(parser, "--device")


def execute(arguments: argparse.Namespace) -> None:
    """Run what is left of it, then report; the same command resumes it, however it was stopped."""
    with live_runs.announced():  # before torch
        from ddpm_lab.studies.suite import bench

        with without_hangup():
            bench(arguments.suite, arguments.results, arguments.reports, arguments.device, only_report=arguments.report)
