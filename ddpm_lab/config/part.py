"""A part chosen by name, as a field of the experiment's schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, InstanceOf, PlainSerializer

from registry.errors import BadInput
from registry.shelf import Shelf


@dataclass(frozen=True)
class Choice:
    """The name of a part and all its options, checked, defaults filled in."""

    name: str
    options: Mapping[str, Any]

    def flat(self) -> dict[str, Any]:
        """`{name: ..., option: ...}`, as YAML has it."""
        listed = {key: list(value) if isinstance(value, tuple) else value for key, value in self.options.items()}
        return {"name": self.name, **listed}


def read_choice(value: Any, check: Callable[[str, Mapping[str, Any]], Mapping[str, Any]], noun: str) -> Choice:
    """A part's name, or `{name: ..., option: ...}`, with its options checked.

    Raises:
        BadInput: it is neither, or an option is wrong.
    """
    if isinstance(value, Choice):
        return value
    mapping = {"name": value} if isinstance(value, str) else value
    if not isinstance(mapping, dict) or not isinstance(mapping.get("name"), str):
        raise BadInput(f"expected the name of a {noun}, or {{name: ..., option: ...}}, got {value!r}")
    options = {key: option for key, option in mapping.items() if key != "name"}
    return Choice(mapping["name"], check(mapping["name"], options))


def from_shelf(shelf: Shelf[Any]) -> Any:
    """The annotation of a field that holds a `Choice` of that shelf; `loss: l1` is short for `loss: {name: l1}`."""
    return Annotated[
        InstanceOf[Choice],
        BeforeValidator(lambda value: read_choice(value, shelf.check, shelf.kind)),
        PlainSerializer(Choice.flat),
    ]
