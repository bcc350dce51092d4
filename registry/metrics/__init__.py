"""Metrics: what is said of images. A part is called with what was gathered of them, and gives a `Value`, a number, or None.

What that is follows from what the part declares that it needs: `InFeatures`, `InPixels` or `OfNetwork`, in gathered.py. None
says that there is too little to go by; then there is no record. An experiment names metrics, and gives them no options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, NamedTuple

from registry.metrics.gathered import InFeatures as InFeatures
from registry.metrics.gathered import InPixels as InPixels
from registry.metrics.gathered import Need as Need
from registry.metrics.gathered import OfNetwork as OfNetwork
from registry.registry import AnyPart, Part, Registry, stock
from registry.traits import Traits

Interval = tuple[float, float]


class Buckets(NamedTuple):
    """Of a value that is a mean over intervals of log SNR, so that it can be averaged over others: those that paths share."""

    covered: tuple[str, ...]  # those that lie wholly on the path
    covariance: tuple[tuple[float, ...], ...] | None  # of the means of all of them; None of one image


class Value(NamedTuple):
    """A metric's value, its 95 % interval where one is known, and what it is made up of where that tells more."""

    value: float | None
    interval: Interval | None = None
    detail: Mapping[str, float] | None = None
    buckets: Buckets | None = None
    why: str = ""  # there is no value, where there is none


@dataclass(frozen=True)
class MetricTraits(Traits):
    """What a metric declares.

    `needs`: what has to be gathered; it is not measured where that cannot be had. `logits` are any classifier's, `classes`
    those of one that tells the data's own classes apart, `labels` the classes that images were asked for; `pixels` and
    `network` stand alone. `protocol`: the metric in words, as the record's protocol has it, or a function of how many features
    of the images and of the reference are kept; its name by default. `floor`: whether real, held-out images have a value of
    it, or that value. `usual`: whether it is measured where nobody says what; else by name, or by the option of `evaluate`
    called `switch`. `during`: whether it is measured while a run trains too, from moments and kept features. `main`: it is
    always measured, and stands for all of them where one number has to; less of it is better. `place`: among the others.
    """

    needs: frozenset[Need] = frozenset({"moments"})
    higher: bool = False  # is better
    digits: int = 3  # decimals that are worth printing
    protocol: str | Callable[[int, int], str] = ""
    floor: bool | float = True
    usual: bool = True
    switch: str = ""
    during: bool = False
    main: bool = False
    place: int = 100


class Metrics(Registry[Callable[[Any], Any], MetricTraits]):
    """The metrics, in the order in which they are shown."""

    def register(self, name: str, traits: MetricTraits | None = None) -> Callable[[AnyPart], AnyPart]:
        """As every registry does, and in its place."""
        add = super().register(name, traits)

        def ordered(make: AnyPart) -> AnyPart:
            add(make)
            self._parts = dict(sorted(self._parts.items(), key=lambda item: item[1].traits.place))
            return make

        return ordered

    def __iter__(self) -> Iterator[Part[MetricTraits]]:
        return iter(self._parts.values())

    @property
    def main(self) -> str:
        """The one that is always measured."""
        return next(part.name for part in self if part.traits.main)

    def usual(self, switch: str = "") -> frozenset[str]:
        """What is measured where nobody says what; with what that option of `evaluate` asks for."""
        return frozenset(part.name for part in self if part.traits.usual or (switch and part.traits.switch == switch))

    def needing(self, names: AbstractSet[str], *needs: Need) -> list[str]:
        """Those of the names that need something of it."""
        return [part.name for part in self if part.name in names and not part.traits.needs.isdisjoint(needs)]


METRICS = Metrics("metric", ("seen",), MetricTraits())

stock(__name__, __path__)
