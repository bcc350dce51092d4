"""Metrics computed from what was gathered, and the records of their results."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ddpm_lab.storage.measurement import Generation, Measurement, Protocol, settled
from registry.blame import on_behalf_of
from registry.errors import BadInput
from registry.metrics import METRICS, MetricTraits, Value
from registry.metrics.gathered import KEPT, Seen
from registry.registry import Part

Floors = tuple[Mapping[str, Value], int]  # what held-out images score, and how many they are


def values(seen: Seen, wanted: Collection[str], *, during: bool = False) -> dict[str, Value]:
    """Of the wanted metrics those that can be computed from what was seen; `during`: that are measured while a run trains.

    A metric that fails costs no run: its value is None, and says why.
    """
    found = {}
    for part in METRICS:
        traits = part.traits
        if part.name in wanted and (traits.during or not during) and all(map(seen.has, traits.needs)):
            value = _value(part, seen)
            if value is not None:
                found[part.name] = value if isinstance(value, Value) else Value(float(value))
    return found


def _value(part: Part[MetricTraits], seen: Seen) -> Any:
    try:
        with on_behalf_of("metrics", part.name, "fails"):
            return part.make(seen)
    except BadInput as error:
        return Value(None, why=str(error))


def in_words(metric: str, n: int, reference: int) -> str:
    """The metric as its protocol has it, of n images beside so many kept features of the reference."""
    words = METRICS.part(metric).traits.protocol
    return (words if isinstance(words, str) else words(min(n, KEPT), reference)) or metric


def measurements(
    seen: Seen, wanted: Collection[str], protocol: Callable[[str], Protocol], generation: Generation, floors: Floors = ({}, 0)
) -> list[Measurement]:
    """The records of wanted metrics outside of any extractor's features; `protocol` gives that of a metric in words."""
    return [
        record_of(metric, found, protocol(in_words(metric, 0, 0)), generation, floors)
        for metric, found in values(seen, wanted).items()
    ]


def record_of(
    metric: str, found: Value, protocol: Protocol, generation: Generation, floors: Floors, caveat: str | None = None
) -> Measurement:
    """One record: value, interval, floor, protocol, how the images were made."""
    traits, (known, floor_n) = METRICS.part(metric).traits, floors
    floor = known.get(metric, Value(None)) if traits.floor is True else Value(traits.floor or None)
    covered, covariance = found.buckets or (None, None)
    return settled(
        Measurement(
            metric, protocol.extractor, found.value, caveat, found.interval, protocol.n, floor.value, floor.interval,
            floor_n if traits.floor else 0, found.detail, protocol.fingerprint, protocol, generation, traits.higher,
            traits.digits, found.why or None, covered=covered, covariance=covariance, buckets=covered,
        )
    )  # fmt: skip
