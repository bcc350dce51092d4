"""Show all parts with their options, or the experiments."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from registry.errors import BadInput, did_you_mean
from registry.files import YAML, read_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab list [CATEGORY]`."""
    parser.add_argument("category", nargs="?", help="only this category, such as losses; or experiments")


def execute(arguments: argparse.Namespace) -> None:
    """Print them."""
    print("\n".join(lines(arguments.category)))


def lines(category: str | None = None) -> Iterator[str]:
    """Every part with the first line of its docstring and its options, or the experiments with their descriptions.

    Raises:
        BadInput: no category has that name.
    """
    from ddpm_lab.api.parts import parts
    from registry.plugins import REGISTRIES

    if category == "experiments":
        yield from _experiments()
        return
    if category is not None and category not in REGISTRIES:
        raise BadInput(f"list: no category named '{category}'; {did_you_mean(category, [*REGISTRIES, 'experiments'])}")
    for name in REGISTRIES if category is None else [category]:
        yield from (name, *parts(name).lines(), "")


def _experiments() -> Iterator[str]:
    from ddpm_lab.config.named_files import EXPERIMENTS, known
    from ddpm_lab.runtime.console import aligned

    yield from aligned([[name, _about(file)] for name, file in known(EXPERIMENTS).items()])


def _about(file: Path) -> str:
    """The description of an experiment: the comment at its top, without the command that runs it."""
    said = []
    for line in read_text(file, YAML).splitlines():
        if not line.startswith("#"):
            break
        said.append(line.removeprefix("#").strip())
    return " ".join(line for line in said if not line.startswith("make run "))
