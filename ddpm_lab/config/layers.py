"""Nested mappings merged layer by layer, remembering who wrote what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ddpm_lab.config.schema import PART_KEYS


class Tree:
    """Nested mappings, merged layer by layer; for each dotted key, the origin that wrote it last."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origin: dict[str, str] = {}
        self.layers: list[str] = []  # the origins, the later ones winning

    def merge(self, layer: Mapping[str, Any], origin: str) -> None:
        self.layers.append(origin)
        self._merge(self.values, layer, "", origin)

    def _merge(self, base: dict[str, Any], layer: Mapping[str, Any], prefix: str, origin: str) -> None:
        for key, value in layer.items():
            dotted = f"{prefix}{key}"
            if dotted in PART_KEYS:
                value = {"name": value} if isinstance(value, str) else value
                old = base.get(key)
                if isinstance(old, dict) and isinstance(value, dict) and value.get("name", old.get("name")) != old.get("name"):
                    del base[key]
            self.origin[dotted] = origin
            if isinstance(value, Mapping) and isinstance(base.get(key), dict):
                self._merge(base[key], value, f"{dotted}.", origin)
            elif isinstance(value, Mapping):
                base[key] = {}
                self._merge(base[key], value, f"{dotted}.", origin)
            else:
                base[key] = value

    def origin_of(self, dotted: str, fallback: str) -> str:
        """Who wrote that key, or the nearest key above it."""
        while dotted and dotted not in self.origin:
            dotted = dotted.rpartition(".")[0]
        return self.origin.get(dotted, fallback)

    def last_origin_of(self, keys: Iterable[str], fallback: str) -> str:
        """Who wrote any of these keys last."""
        return max((self.origin_of(key, fallback) for key in keys), key=lambda origin: self.layers.index(origin))


class Difference(NamedTuple):
    """A key whose values differ."""

    key: str
    old: Any
    new: Any


def differences(old: Any, new: Any, key: str = "") -> Iterator[Difference]:
    """All of them; of two parts that have different names, their names alone, for their options go with them."""
    if isinstance(old, dict) and isinstance(new, dict):
        named = "name" in old and "name" in new and old["name"] != new["name"]
        for name in ["name"] if named else dict.fromkeys([*old, *new]):
            yield from differences(old.get(name), new.get(name), f"{key}.{name}".lstrip("."))
    elif old != new:
        yield Difference(key, old, new)


def first_difference(old: Any, new: Any, key: str = "") -> Difference | None:
    """The first of them, None where all values agree."""
    return next(differences(old, new, key), None)
