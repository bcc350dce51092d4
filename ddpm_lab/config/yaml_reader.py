"""The one YAML reader of the lab, for files and for command-line overrides alike."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from registry.errors import BadInput, reason
from registry.files import YAML, read_file

Tree = dict[str, Any]  # keys to plain values and trees: what a file says, before a schema has checked it


class _Loader(yaml.SafeLoader):
    """Safe loading of plain values, with `1e-4` a float and only `true` and `false` booleans (YAML 1.2).

    Aliases, duplicate keys and keys that are not words are refused.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # A few nested aliases stand for billions of nodes, and an experiment has `extends` instead.
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not read; `extends` shares settings", problem_mark=mark)
        return super().compose_node(parent, index)  # type: ignore[no-any-return]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != _STR or not isinstance(key, yaml.ScalarNode):
                name = f"key {key.value}" if isinstance(key, yaml.ScalarNode) else "key here"
                raise yaml.MarkedYAMLError(problem=f"the {name} is not a word", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"duplicate key '{key.value}'", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_BOOL, _FLOAT, _INT, _STR = (f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "str"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in {_BOOL, _FLOAT, _INT, "tag:yaml.org,2002:timestamp"}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(_INT, re.compile(r"^[-+]?[0-9][0-9_]*$"), list("-+0123456789"))
# No two of its repetitions can take the same characters: a long string of digits takes one pass.
_FLOAT_FORM = r"^(?:[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
_Loader.add_implicit_resolver(_FLOAT, re.compile(_FLOAT_FORM), list("-+.0123456789"))
_KEPT = {None, _FLOAT, _STR, *(f"tag:yaml.org,2002:{kind}" for kind in ("null", "seq", "map"))}
_Loader.yaml_constructors = {tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag in _KEPT}


def _integer(loader: _Loader, node: Any) -> int:
    return int(loader.construct_scalar(node).replace("_", ""))


def _boolean(loader: _Loader, node: Any) -> bool:
    return {"true": True, "false": False}[loader.construct_scalar(node).lower()]


_Loader.add_constructor(_INT, _integer)
_Loader.add_constructor(_BOOL, _boolean)


def parse(text: str) -> Any:
    """The value that a piece of YAML stands for.

    Raises:
        BadInput: it is not YAML; the text says where and why, in one line.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise BadInput(f"{where}{error.problem}") from None
    except RecursionError:
        raise BadInput("not YAML of an experiment: it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, KeyError, OverflowError) as error:
        raise BadInput(f"not YAML: {reason(error)}") from None


def read_mapping(file: Path) -> Tree:
    """The mapping in a YAML file; `BadInput` naming the file where there is none."""
    try:
        text = read_file(file, YAML).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: cannot be read ({error})") from None
    try:
        value = parse(text)
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from None
    if not isinstance(value, dict):
        raise BadInput(f"{file}: a mapping of keys to values was expected, not {describe(value)}")
    return value


def describe(value: Any) -> str:
    """`the text 'x'`, `a list`: a value as an error message names it."""
    names = {list: "a list", dict: "a mapping", type(None): "nothing", str: f"the text {value!r}"}
    return names.get(type(value), repr(value))
