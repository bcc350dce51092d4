"""Show all parts with their options, the experiments, or the models that ship."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from registry.errors import BadInput, did_you_mean
from registry.files import YAML, read_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab list [CATEGORY]`."""
    parser.add_argument("category", nargs="?", help="only this category, such as losses; or experiments, or models")


def execute(arguments: argparse.Namespace) -> None:
    """Print them."""
    print("\n".join(lines(arguments.category)))


def lines(category: str | None = None) -> Iterator[str]:
    """Every part with the first line of its docstring and its options; or the experiments, or the models that ship, with what
    they say of themselves.

    Raises:
        BadInput: no category has that name.
    """
    from ddpm_lab.api.parts import parts
    from registry.plugins import REGISTRIES

    others = {"experiments": _experiments, "models": _models}
    if category in others:
        yield from others[category]()
        return
    if category is not None and category not in REGISTRIES:
        raise BadInput(f"list: no category named '{category}'; {did_you_mean(category, [*REGISTRIES, *others])}")
    for name in REGISTRIES if category is None else [category]:
        yield from (name, *parts(name).lines(), "")


def _experiments() -> Iterator[str]:
    from ddpm_lab.config.named_files import EXPERIMENTS, known
    from ddpm_lab.runtime.console import aligned

    yield from aligned([[name, _about(file)] for name, file in known(EXPERIMENTS).items()])


def _models() -> Iterator[str]:
    from ddpm_lab.reports.result_table import in_a_line
    from ddpm_lab.runtime.console import aligned
    from ddpm_lab.storage import shipped
    from ddpm_lab.storage.measurement import read_result

    rows = [[name, in_a_line(read_result(folder / "result.json"))] for name, folder in shipped.models().items()]
    yield from aligned(rows) if rows else ["no model ships with this version of the lab"]


def _about(file: Path) -> str:
    """The description of an experiment: the comment at its top, without the command that runs it."""
    said = []
    for line in read_text(file, YAML).splitlines():
        if not line.startswith("#"):
            break
        said.append(line.removeprefix("#").strip())
    return " ".join(line for line in said if not line.startswith("make run "))
