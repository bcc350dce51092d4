"""Nested mappings merged layer by layer, remembering who wrote what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ddpm_lab.config.schema import PART_KEYS
from ddpm_lab.config.yaml_reader import Tree


class Layers:
    """Trees, merged one over the other; for each dotted key, the origin that wrote it last."""

    def __init__(self) -> None:
        self.values: Tree = {}
        self.origin: dict[str, str] = {}
        self.origins: list[str] = []  # of the layers, the later ones winning

    def merge(self, layer: Tree, origin: str) -> None:
        self.origins.append(origin)
        self._merge(self.values, layer, "", origin)

    def _merge(self, base: Tree, layer: Tree, prefix: str, origin: str) -> None:
        for key, value in layer.items():
            dotted = f"{prefix}{key}"
            if dotted in PART_KEYS:
                value = {"name": value} if isinstance(value, str) else value
                old = base.get(key)
                if isinstance(old, dict) and isinstance(value, dict) and value.get("name", old.get("name")) != old.get("name"):
                    del base[key]
            self.origin[dotted] = origin
            if isinstance(value, dict) and isinstance(base.get(key), dict):
                self._merge(base[key], value, f"{dotted}.", origin)
            elif isinstance(value, dict):
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
        return max((self.origin_of(key, fallback) for key in keys), key=lambda origin: self.origins.index(origin))


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
