"""JSON as all programs read it: the one writer and reader of what the lab measures.

Python writes NaN and Infinity into JSON, which has no such words. Here they are null, and the object that holds them says
what they were: `{"loss": null, "not_finite": {"loss": "nan"}}`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddpm_lab.runtime.redaction import discreet
from ddpm_lab.storage.files import write_text
from registry.errors import BadInput, reason
from registry.files import RECORD, read_text

NOT_FINITE = "not_finite"


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
