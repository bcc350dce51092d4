"""The one YAML reader of the lab, for files and for command-line overrides alike."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from registry.errors import BadInput


class _Loader(yaml.SafeLoader):
    """Safe loading, with `1e-4` a float, only `true` and `false` booleans (YAML 1.2), and duplicate keys refused."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # A few nested aliases stand for billions of nodes, and an experiment has `extends` instead.
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not read; `extends` shares settings", problem_mark=mark)
        return super().compose_node(parent, index)  # type: ignore[no-any-return]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.MarkedYAMLError(problem=f"duplicate key '{key_node.value}'", problem_mark=key_node.start_mark)
            seen.add(str(key_node.value))
        return super().construct_mapping(node, deep)


_BOOL, _FLOAT, _INT = (f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in {_BOOL, _FLOAT, _INT, "tag:yaml.org,2002:timestamp"}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(_INT, re.compile(r"^[-+]?[0-9][0-9_]*$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"^(?:[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"),
    list("-+.0123456789"),
)
_Loader.add_constructor(_INT, lambda loader, node: int(node.value.replace("_", "")))


def parse(text: str) -> Any:
    """The value that a piece of YAML stands for.

    Raises:
        BadInput: it is no YAML; the text says where and why, in one line.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise BadInput(f"{where}{error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"not YAML: {' '.join(str(error).split())}") from None


def read_mapping(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file; `BadInput` naming the file where there is none."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: cannot be read ({error})") from None
    try:
        value = parse(text)
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from None
    if not isinstance(value, dict):
        raise BadInput(f"{file}: a mapping of keys to values was expected, not {describe(value)}")
    for key in value:
        if not isinstance(key, str):
            raise BadInput(f"{file}: the key {key!r} is not a word")
    return value


def describe(value: Any) -> str:
    """`the text 'x'`, `a list`: a value as an error message names it."""
    names = {list: "a list", dict: "a mapping", type(None): "nothing", str: f"the text {value!r}"}
    return names.get(type(value), repr(value))
