"""What pydantic finds wrong, in one line for the user: the key, the value, what was expected."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pydantic

from registry.errors import did_you_mean

MISSING = "this key is missing; give it a value"
LONGEST = 80  # letters of a value that are shown


class Problem(NamedTuple):
    """The first thing that is wrong: its dotted key, what to say of it, and the exception of a validator that found it."""

    key: str
    text: str
    cause: Exception | None

    def __str__(self) -> str:
        return f"{self.key}: {self.text}" if self.key else self.text


def first_problem(error: pydantic.ValidationError, model: Any = None, owner: str = "") -> Problem:
    """What to tell the user of an error.

    Keys that are known are those of `model`, a class of pydantic's. `owner`, such as `loss 'huber'`, is whose options the keys
    are, where they are those of a part.
    """
    # An unknown key first: a misspelt key is also a missing one, and the spelling is what helps.
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    location, cause = first["loc"], first.get("ctx", {}).get("error")
    key = ".".join(map(str, location))
    if cause is not None:
        text = str(cause)
    elif first["type"] == "extra_forbidden":
        said = f"{owner} has no option '{key}'" if owner else "no such key"
        text = f"{said}; {did_you_mean(str(location[-1]), _keys_at(model, location[:-1]))}"
    elif first["type"] == "missing":
        text = f"{owner} needs the option '{key}'" if owner else MISSING
    else:
        expected, given = first["msg"].replace("valid tuple", "list"), repr(first["input"])
        text = f"{expected[0].lower()}{expected[1:]}, got {given if len(given) <= LONGEST else f'{given[:LONGEST]} ...'}"
    return Problem(key, text, cause)


def _keys_at(model: Any, location: tuple[int | str, ...]) -> Iterable[str]:
    """The keys of the model at that place below `model`."""
    fields: dict[str, Any] = getattr(model, "model_fields", {})
    for piece in location:
        if piece in fields:  # else the number of a place in a list
            fields = getattr(next(_models(fields[piece].annotation), None), "model_fields", {})
    return fields


def _models(hint: Any) -> Iterator[Any]:
    """The models in an annotation: `EMA | None` and `tuple[EMA, ...]` have EMA."""
    if hasattr(hint, "model_fields"):
        yield hint
    for inner in typing.get_args(hint):
        yield from _models(inner)
