"""A part chosen by name, as a field of the experiment's schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import core_schema

from registry.errors import BadInput
from registry.registry import Registry


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
        article = "an" if noun[0] in "aeiou" else "a"
        raise BadInput(f"expected the name of {article} {noun}, or {{name: ..., option: ...}}, got {value!r}")
    options = {key: option for key, option in mapping.items() if key != "name"}
    return Choice(mapping["name"], check(mapping["name"], options))


@dataclass(frozen=True)
class PartOf:
    """Beside the type of a field: it holds a part of that registry. `loss: l1` is short for `loss: {name: l1}`."""

    registry: Registry[Any, Any]

    def read(self, value: Any) -> Any:
        """What YAML has there, checked."""
        return read_choice(value, self.registry.check, self.registry.kind)

    def flat(self, value: Any) -> Any:
        """The same as YAML has it."""
        return value.flat()

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> core_schema.CoreSchema:
        written = core_schema.plain_serializer_function_ser_schema(self.flat)
        return core_schema.no_info_plain_validator_function(self.read, serialization=written)
