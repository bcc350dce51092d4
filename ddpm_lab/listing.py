"""`list`: every part with the first line of its docstring and its options."""

from __future__ import annotations

from collections.abc import Iterator

from registry.errors import BadInput, did_you_mean
from registry.plugins import SHELVES, load_installed


def lines(shelf: str | None = None) -> Iterator[str]:
    """The text of `ddpm-lab list`, line by line; of one shelf where it is named.

    Raises:
        BadInput: no shelf has that name.
    """
    load_installed()
    if shelf is not None and shelf not in SHELVES:
        raise BadInput(f"list: no shelf named '{shelf}'; {did_you_mean(shelf, SHELVES)}")
    for name, parts in SHELVES.items():
        if shelf in (None, name):
            yield name
            for part in parts:
                yield f"  {part.name:<16} {part.summary}"
                for option, text in part.options().items():
                    yield f"  {'':<16}   {option}: {text}"
            yield ""
