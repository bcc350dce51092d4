"""`parts("samplers")`: the parts of a category, with their options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ddpm_lab.api.call import checked
from ddpm_lab.runtime.console import Shown
from registry.errors import BadInput, did_you_mean
from registry.plugins import REGISTRIES, load_installed
from registry.registry import Part


class Parts(Shown, tuple[Part[Any], ...]):
    """Parts by name, in order: each has `name`, `summary` and `options()`."""

    def lines(self) -> Iterator[str]:
        """Each with the first line of its docstring, and below it its options with their types and defaults."""
        for part in self:
            yield f"  {part.name:<16} {part.summary}"
            for option, text in part.options().items():
                yield f"  {'':<16}   {option}: {text}"


@checked
def parts(category: str) -> Parts:
    """The parts of a category such as `samplers`, those of installed packages too; a notebook shows them as a table.

    Raises:
        BadInput: no category has that name.
    """
    load_installed()
    if category not in REGISTRIES:
        raise BadInput(f"no category named '{category}'; {did_you_mean(category, REGISTRIES)}")
    return Parts(REGISTRIES[category])
