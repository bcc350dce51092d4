"""JSON as all programs read it: the one writer and reader of what the lab records.

Python writes NaN and Infinity into JSON, which has no such words. Here they are null, and the object that holds them says
what they were: `{"loss": null, "not_finite": {"loss": "nan"}}`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from ddpm_lab.runtime.redaction import discreet
from ddpm_lab.storage.files import write_text
from registry.errors import BadInput, reason
from registry.files import RECORD, read_text

T = TypeVar("T")
Json = dict[str, Any]  # an object that is only printed, or whose keys are those of another program
NOT_FINITE = "not_finite"
VERSION = 1  # of all records; files of older runs do not say theirs, which is 1


def to_json(value: Any, indent: int | None = None) -> str:
    """The value as JSON, without what no file may tell."""
    return json.dumps(discreet(_finite(value)), indent=indent, allow_nan=False)


def from_json(text: str) -> Any:
    """What JSON says; the NaN and Infinity of older files are null.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def write_json(file: Path, value: Any) -> None:
    """The value as a file, whole."""
    write_text(file, to_json(value, indent=2) + "\n")


def read_json(file: Path) -> Any:
    """What a file says.

    Raises:
        OSError: it cannot be read.
        BadInput: it is not JSON, or not a file that may be read.
    """
    try:
        return from_json(read_text(file, RECORD))
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"{file}: damaged, for it is not JSON ({reason(error)})") from None


def read_record(file: Path, adapter: TypeAdapter[T], within: str = "") -> T:
    """The record that a file holds, or a list of them, maybe under the key `within`.

    Raises:
        OSError: it cannot be read.
        BadInput: it holds something else, or a record of a newer version.
    """
    content = read_json(file)
    content = content.get(within) if within and isinstance(content, dict) else content
    for record in content if isinstance(content, list) else [content]:
        version = record.get("version") if isinstance(record, dict) else None
        if isinstance(version, int) and version > VERSION:
            raise BadInput(f"{file}: of version {version}; this ddpm_lab reads up to {VERSION}, so take a newer one")
    try:
        return adapter.validate_json(json.dumps(_without_words(content)), strict=True)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file}: damaged ({reason(error)[:200]})") from None


def _without_words(content: Any) -> Any:
    """Without the notes that say which numbers were not finite, and are null."""
    if isinstance(content, dict):
        return {key: _without_words(value) for key, value in content.items() if key != NOT_FINITE}
    return [_without_words(one) for one in content] if isinstance(content, list) else content


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    if isinstance(value, Mapping):
        words = {key: word for key, one in value.items() if (word := _word(one))}
        told = {NOT_FINITE: {**value.get(NOT_FINITE, {}), **words}} if words else {}
        return {key: _finite(one) for key, one in value.items()} | told
    return value


def _word(value: Any) -> str:
    """`nan`, `inf` or `-inf`, also where it stands in a list; nothing where all is finite."""
    if isinstance(value, float):
        return "" if math.isfinite(value) else str(float(value))
    if isinstance(value, (list, tuple)):
        return next(filter(None, map(_word, value)), "")
    return ""
