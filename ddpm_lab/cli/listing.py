"""`list`: every part with the first line of its docstring and its options; the experiments with what they say of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ddpm_lab.config.load import HOME
from ddpm_lab.runtime.console import aligned
from registry.errors import BadInput, did_you_mean
from registry.files import YAML, read_text
from registry.plugins import SHELVES, load_installed

EXPERIMENTS = "experiments"


def lines(shelf: str | None = None) -> Iterator[str]:
    """The text of `ddpm-lab list`, line by line; of one category where it is named.

    Raises:
        BadInput: no category has that name, or there are no experiments here.
    """
    if shelf == EXPERIMENTS:
        yield from _experiments(HOME)
        return
    load_installed()
    if shelf is not None and shelf not in SHELVES:
        raise BadInput(f"list: no shelf named '{shelf}'; {did_you_mean(shelf, [*SHELVES, EXPERIMENTS])}")
    for name, parts in SHELVES.items():
        if shelf in (None, name):
            yield name
            for part in parts:
                yield f"  {part.name:<16} {part.summary}"
                for option, text in part.options().items():
                    yield f"  {'':<16}   {option}: {text}"
            yield ""


def _experiments(folder: Path) -> Iterator[str]:
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise BadInput(f"list: there is no {folder}/ with experiments here; go to the folder that holds it")
    yield from aligned([[file.stem, _about(file)] for file in files])


def _about(file: Path) -> str:
    """What an experiment says of itself: the comment at its top, without the command that runs it."""
    said = []
    for line in read_text(file, YAML).splitlines():
        if not line.startswith("#"):
            break
        said.append(line.removeprefix("#").strip())
    return " ".join(line for line in said if not line.startswith("make run "))
