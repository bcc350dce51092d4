"""Dotted overrides of the command line, as a user types them and as a W&B sweep agent passes them."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

import yaml

from ddpm_lab.config.schema import PART_KEYS
from ddpm_lab.config.yaml_reader import Tree, parse
from registry.errors import BadInput

COMMAND_LINE = "command line"
DEEPEST = 20  # pieces of a key; the settings of an experiment have four, and what lies deeper is a value of a part's option


def layer_of(overrides: Iterable[str], origin: str = COMMAND_LINE) -> Tree:
    """`["train.batch=32", "loss=huber"]` as the tree that a YAML file would give; a later one wins over an earlier one.

    `origin` is where they were written, for messages.

    Raises:
        BadInput: one of them is not a valid override.
    """
    layer: Tree = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key or not all(key.split(".")):
            raise BadInput(f"{origin}: {override!r} is not a valid override; write key=value, such as train.images=5000")
        if (pieces := key.count(".") + 1) > DEEPEST:
            raise BadInput(f"{origin}: {key[:40]}...: a key of {pieces:,} pieces; no setting has more than {DEEPEST}")
        try:
            value = value_of(text)
        except BadInput as error:
            raise BadInput(f"{origin}: {key}: {error}") from None
        place, *path = layer, *key.split(".")
        dotted = ""
        for piece in path[:-1]:
            dotted = f"{dotted}.{piece}".lstrip(".")
            place[piece] = _opened(dotted, place.get(piece, {}))
            place = place[piece]
            if not isinstance(place, dict):
                raise BadInput(f"{origin}: {key}: '{dotted}' was given a value of its own before")
        place[path[-1]] = _merged(key, place.get(path[-1]), value)
    return layer


def value_of(text: str) -> Any:
    """What the text after `=` stands for: YAML, or one of the forms that a sweep agent makes of a value of a sweep file.

    An agent writes `None` for null, a nested group as Python does (`{'peak': 0.001, 'decay': None}`), and leaves `1e-3` a text,
    because PyYAML, which read the sweep file, does so.

    Raises:
        BadInput: it is not YAML either.
    """
    if text == "None":
        return None
    if text[:1] in ("{", "["):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return parse(text)
        return _number_where_meant(value) if _is_plain(value) else parse(text)
    return parse(text)


def of_seed(seed: int) -> tuple[str, str]:
    """Another seed of training samples from other noise too; otherwise no seed would tell how much the noise does."""
    return f"seed={seed}", f"sampling.seed={seed}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(below) for key, below in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _number_where_meant(value: Any) -> Any:
    """`1e-3` as the float that it looks like; a quoted `'5'` stays a text, which PyYAML would have read as a number."""
    if isinstance(value, dict):
        return {key: _number_where_meant(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_number_where_meant(below) for below in value]
    if isinstance(value, str) and value[:1] in tuple("+-.0123456789"):
        try:
            meant, read = parse(value), yaml.safe_load(value)
        except (BadInput, ValueError, yaml.YAMLError):
            return value
        return meant if isinstance(meant, float) and isinstance(read, str) else value
    return value


def _opened(dotted: str, value: Any) -> Any:
    """`loss=huber loss.delta=2`: the short form opens up for an option that follows it."""
    return {"name": value} if dotted in PART_KEYS and isinstance(value, str) else value


def _merged(dotted: str, old: Any, new: Any) -> Any:
    """What a key stands for after it was given twice: mappings are one, of anything else the later one holds."""
    if isinstance(old, dict):
        new = _opened(dotted, new)
    elif isinstance(new, dict):
        old = _opened(dotted, old)
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return old | {key: _merged(f"{dotted}.{key}", old.get(key), value) for key, value in new.items()}
