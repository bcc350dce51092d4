"""What a part promises, checked: `conforms(MyLoss)` is a whole test of a new part.

    from ddpm_lab.testing import conforms

    def test_my_loss() -> None:
        conforms(my_loss, scale=0.5)

It raises an AssertionError that says which promise is broken. The options are those that the part needs to be built, and those
without which others have nothing to do: `conforms(euler, churn=10.0)`, because `s_min` is the place of the churn. A part may
declare them in its registration (`Traits(trial=...)`), such as sizes that make a network small.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ddpm_lab.testing import data, learning, metrics, noise, objectives, sampling  # noqa: F401 - each puts its promises into CHECKS
from ddpm_lab.testing.promises import CHECKS, PROBES, SOURCED, require
from registry.errors import BadInput
from registry.plugins import REGISTRIES
from registry.registry import Part, Registry
from registry.traits import Options

__all__ = ["CHECKS", "PROBES", "conforms"]


def conforms(part: Callable[..., Any], **options: Any) -> None:
    """Check a registered part against all that its category promises.

    Raises:
        AssertionError: it breaks a promise; the text says which.
    """
    name, registry, found = _placed(part)
    require(bool(found.summary), "its docstring says what it is")
    if name in SOURCED:
        said = re.search(r"\b(18|19|20)\d\d|\bno source\b", part.__doc__ or "", re.IGNORECASE)
        require(bool(said), "its docstring names its source with the year, or says `no source` where the idea is new")
    chosen = {**found.traits.trial, **options}
    CHECKS[name](registry.configure(found.name, chosen))
    if name in PROBES:
        as_it_is = PROBES[name](registry.configure(found.name, chosen))
        for option, value in registry.check(found.name, chosen).items():
            others = list(_outcomes(PROBES[name], _changed(registry, found.name, chosen, option, value)))
            honoured = any(other.shape != as_it_is.shape or not torch.equal(other, as_it_is) for other in others)
            require(honoured, f"option {option} changes something")


def _placed(part: Callable[..., Any]) -> tuple[str, Registry[Any, Any], Part[Any]]:
    for name, registry in REGISTRIES.items():
        for found in registry:
            if found.make is part:
                return name, registry, found
    raise AssertionError(f"{part!r} is not registered; decorate it with @REGISTRY.register(name)")


def _changed(
    registry: Registry[Any, Any], name: str, options: Options, option: str, value: Any
) -> Iterator[Callable[..., Any]]:
    """The part with other values of one option, as far as its signature takes them.

    One that is null may exclude another, which is then null in its place.
    """
    freed: list[Options] = [{}]
    if isinstance(value, bool):
        tried: list[Any] = [not value]
    elif isinstance(value, (int, float)):
        tried = [value + 1, 2 * value, value / 2, value // 2, value - 1, int(value) + 1, 0.3, 0.7, 0.9 * value]
    elif isinstance(value, (list, tuple)) and all(isinstance(one, (int, float)) for one in value):
        tried = [[2 * one for one in value], [one + 1 for one in value], [one / 50 for one in value], None]
    else:
        tried = [0.3, 0.7, "another", 2, [8], *_literals(registry.part(name).schema.model_fields[option].annotation)]
        freed += [{key: None} for key in options if key != option and value is None]
    for other in tried:
        for null in freed:
            try:
                yield registry.configure(name, {**options, option: other, **null})
            except BadInput:
                continue


def _literals(hint: Any) -> Iterator[Any]:
    """The values that `Literal` lists, anywhere in an annotation."""
    for inner in typing.get_args(hint):
        yield from [inner] if typing.get_origin(hint) is typing.Literal else _literals(inner)


def _outcomes(probe: Callable[[Callable[..., Any]], Tensor], parts: Iterator[Callable[..., Any]]) -> Iterator[Tensor]:
    for part in parts:
        try:
            yield probe(part)
        except ValueError:  # BadInput is one: values that the signature takes, and the part does not
            continue
