"""A part that was chosen: its name, and its options as they were checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from registry.errors import BadInput
from registry.traits import Options


@dataclass(frozen=True)
class Choice:
    """The name of a part and all its options, checked, defaults filled in."""

    name: str
    options: Options

    def flat(self) -> Options:
        """`{name: ..., option: ...}`, as YAML has it."""
        listed = {key: list(value) if isinstance(value, tuple) else value for key, value in self.options.items()}
        return {"name": self.name, **listed}


def read_choice(value: Any, check: Callable[[str, Options], Options], noun: str) -> Choice:
    """A part's name, or `{name: ..., option: ...}`, with its options checked.

    Raises:
        BadInput: it is neither, or an option is wrong.
    """
    if isinstance(value, Choice):
        return value
    mapping = {"name": value} if isinstance(value, str) else value
    if not isinstance(mapping, dict) or not isinstance(mapping.get("name"), str):
        article = "an" if noun[0] in "aeiou" else "a"
        raise BadInput(f"expected the name of {article} {noun}, or {{name: ..., option: ...}}, got {value!r}")
    options = {key: option for key, option in mapping.items() if key != "name"}
    return Choice(mapping["name"], check(mapping["name"], options))
