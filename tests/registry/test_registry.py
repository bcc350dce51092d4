"""The registry: the signature is the schema, and every mistake is named."""

from typing import Any, Literal

import pytest

from registry.errors import BadInput
from registry.options import Count, Positive
from registry.registry import Registry


@pytest.fixture
def registry() -> Registry[Any, Any]:
    """A registry with one part of many options."""
    registry: Registry[Any, Any] = Registry("thing", runtime=("x",))

    @registry.register("plain")
    def plain(
        x: float,
        *,
        needed: int,
        width: Count = 4,
        rate: Positive = 0.5,
        sizes: tuple[Count, ...] = (1, 2),
        kind: Literal["a", "b"] = "a",
        name: str | None = None,
    ) -> tuple[object, ...]:
        """What it is (Someone 2020)."""
        return x, needed, width, rate, sizes, kind, name

    return registry


def test_options_are_bound_and_defaults_filled_in(registry: Registry[Any, Any]) -> None:
    part = registry.configure("plain", {"needed": 1, "sizes": [3, 4], "rate": 2})
    assert part(9.0) == (9.0, 1, 4, 2.0, (3, 4), "a", None)
    assert registry.part("plain").summary == "What it is (Someone 2020)."
    assert registry.part("plain").options()["width"] == "int = 4"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs the option 'needed'"),
        ({"needed": 1, "wdth": 3}, "no option 'wdth'; did you mean 'width'?"),
        ({"wdth": 3}, "no option 'wdth'"),
        ({"needed": "1"}, "valid integer, got '1'"),
        ({"needed": True}, "valid integer"),
        ({"needed": 1.5}, "valid integer"),
        ({"needed": 1, "rate": float("nan")}, "finite"),
        ({"needed": 1, "rate": 0.0}, "greater than 0"),
        ({"needed": 1, "width": -3}, "greater than 0"),
        ({"needed": 1, "sizes": [1, 0]}, "greater than 0"),
        ({"needed": 1, "kind": "c"}, "'a' or 'b'"),
        ({"needed": None}, "valid integer"),
    ],
)
def test_an_option_that_does_not_fit_is_named(registry: Registry[Any, Any], options: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        registry.check("plain", options)


def test_an_unknown_name_gets_the_nearest_one(registry: Registry[Any, Any]) -> None:
    with pytest.raises(BadInput, match="no thing named 'plane'; did you mean 'plain'\\? known: plain"):
        registry.part("plane")


def test_a_name_has_one_owner(registry: Registry[Any, Any]) -> None:
    with pytest.raises(BadInput, match=r"'plain' is already registered by .*test_registry.*\.py"):

        @registry.register("plain")
        def other(x: float) -> float:
            """Another."""
            return x


def test_what_is_no_part_is_refused(registry: Registry[Any, Any]) -> None:
    with pytest.raises(BadInput, match="no docstring"):

        @registry.register("silent")
        def silent(x: float) -> float:
            return x

    with pytest.raises(BadInput, match=r"takes \(x, y\), but the lab supplies \(x\)"):

        @registry.register("greedy")
        def greedy(x: float, y: float) -> float:
            """Asks for more."""
            return x

    with pytest.raises(BadInput, match="option 'width' has no type annotation"):

        @registry.register("untyped")
        def untyped(x: float, *, width=3) -> float:  # type: ignore[no-untyped-def]
            """Says too little."""
            return x

    assert [part.name for part in registry] == ["plain"]


def test_plugins_find_it_under_its_former_names() -> None:
    from registry.plugins import REGISTRIES, SHELVES
    from registry.shelf import OptionError, Shelf

    assert Shelf is Registry
    assert SHELVES is REGISTRIES
    assert issubclass(OptionError, BadInput)
