"""How a call of the Python API reads what it is given: a wrong word is answered with the nearest right one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from typing_extensions import ParamSpec

from registry.errors import BadInput, did_you_mean

P = ParamSpec("P")
R = TypeVar("R")
PartName = str | Mapping[str, Any]  # `"heun"`, or with options `{"name": "heun", "churn": 40.0}`, as YAML has them


def checked(call: Callable[P, R]) -> Callable[P, R]:
    """The call, whose mistakes are told in its own words: a wrong keyword, or what the command line has as an option."""
    parameters = inspect.signature(call).parameters.values()
    keywords = [one.name for one in parameters if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)]
    free = any(one.kind is one.VAR_KEYWORD for one in parameters)

    @functools.wraps(call)
    def checking(*args: P.args, **kwargs: P.kwargs) -> R:
        if not free:
            refuse_unknown(call.__name__, kwargs, [word for word in keywords if word != "self"])
        try:
            return call(*args, **kwargs)
        except BadInput as error:
            if str(error).startswith("--"):
                raise BadInput(str(error).removeprefix("--")) from None
            raise

    return checking


def refuse_unknown(call: str, given: Iterable[str], known: Collection[str]) -> None:
    """Nothing where all keywords are known.

    Raises:
        BadInput: one is not; the text is that of a key in YAML.
    """
    for word in given:
        if word not in known:
            raise BadInput(f"{call}(): {word}: no such key; {did_you_mean(word, known)}")


def require_overrides(call: str, overrides: Sequence[object]) -> None:
    """Nothing where each is a text.

    Raises:
        BadInput: one is not.
    """
    for one in overrides:
        if not isinstance(one, str):
            raise BadInput(f"{call}(): {one!r} is not a valid override; write 'key=value', such as 'train.batch=64'")


def require_count(call: str, name: str, value: object, least: int = 1) -> None:
    """Nothing where it is a whole number, and large enough.

    Raises:
        BadInput: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise BadInput(f"{call}(): {name}: {value!r} is not a whole number from {least} on")
