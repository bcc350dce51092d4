"""A part chosen by name, as a field of the experiment's schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic_core import core_schema

from registry.choice import read_choice
from registry.registry import Registry


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
