"""Whose fault an error is: the part, and the line of the file in which an experiment or a package brought it along."""

from __future__ import annotations

import contextlib
import inspect
import traceback
from collections.abc import Iterator
from typing import Any

from registry.errors import BadInput, kind_and_reason
from registry.plugins import REGISTRIES
from registry.registry import Part, Registry


class PartFails(BadInput):
    """A part raises what it should not, or does not give what was promised; the text names it."""


@contextlib.contextmanager
def on_behalf_of(category: str | Registry[Any, Any], name: str, problem: str) -> Iterator[None]:
    """Whatever fails in the block is put down to that part: `problem` says what it cannot do, such as `cannot be built`.

    Raises:
        PartFails: something failed. A `BadInput` of the part's own is left as it is.
    """
    try:
        yield
    except (BadInput, KeyboardInterrupt):
        raise
    except BaseException as error:  # a plugin may die of anything
        registry = REGISTRIES[category] if isinstance(category, str) else category
        part = registry.part(name)
        where = place_of(error) or _definition(part)
        raise PartFails(
            f"{registry.kind}: '{name}' {problem}{f' ({where})' if where else ''}: {kind_and_reason(error)}"
        ) from error


def place_of(error: BaseException) -> str:
    """`plugin '/x/mine.py', line 7`: where the error passed last through a part that is not the lab's own; else nothing."""
    files = {_file(part) for registry in REGISTRIES.values() for part in registry if not _ours(part)}
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_code.co_filename in files:
            return f"plugin '{frame.f_code.co_filename}', line {line}"
    return ""


def _definition(part: Part[Any]) -> str:
    """Where a part that is not the lab's own begins."""
    if _ours(part):
        return ""
    try:
        return f"plugin '{_file(part)}', line {inspect.getsourcelines(part.make)[1]}"
    except (OSError, TypeError):  # its file is gone, or it is not a function or class
        return f"plugin '{_file(part)}'"


def _ours(part: Part[Any]) -> bool:
    return str(getattr(part.make, "__module__", "")).startswith("registry.")


def _file(part: Part[Any]) -> str:
    try:
        return inspect.getsourcefile(part.make) or ""
    except TypeError:
        return ""
