"""A measurement as it is kept: value, interval, floor, protocol, and how the images were made."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True)
class Protocol:
    """All that a value depends on besides the images."""

    metric: str
    extractor: str
    extractor_hash: str
    resize: str
    quantisation: str
    reference: str
    reference_hash: str
    n: int

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits; two values may be ranked only where these agree."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


def unavailable(metric: str, extractor: str, why: str) -> Record:
    """The record of a value that cannot be had."""
    return {"metric": metric, "extractor": extractor, "value": None, "unavailable": why}


def measured_by(record: Record) -> str:
    """`fashion_cnn`, or `fashion_cnn, not made for this data`."""
    return ", ".join(filter(None, (record["extractor"], record.get("caveat"))))


def not_finite(metric: str, extractor: str, why: str) -> Record:
    """The record of a value that is NaN or infinite, or of images that are: unlike an extractor that is missing, a failure."""
    return unavailable(metric, extractor, why) | {"failed": True}


def settled(record: Record) -> Record:
    """The record, or where its value is NaN or infinite one that says so; an interval or a floor that is, is none."""
    value = record["value"]
    if value is not None and not math.isfinite(value):
        return not_finite(record["metric"], record["extractor"], f"the value is not finite ({value})")
    return record | {
        key: None for key in ("interval", "floor", "floor_interval") if not _all_finite(record.get(key))
    }  # fmt: skip


def failures(records: Iterable[Record]) -> list[str]:
    """Why distances could not be measured, where that is the network's own fault; each reason once."""
    return list(dict.fromkeys(one["unavailable"] for one in records if one.get("failed") and one["metric"] == "FID"))


def _all_finite(value: Any) -> bool:
    return value is None or all(map(math.isfinite, value if isinstance(value, (list, tuple)) else (value,)))


def difference(one: Record, other: Record) -> str:
    """The fields of the protocol that keep two records apart: `n: 2000 against 500`."""
    ours, theirs = one["protocol"], other["protocol"]
    return "; ".join(f"{key}: {ours.get(key)} against {theirs.get(key)}" for key in ours if ours.get(key) != theirs.get(key))


def drawn_by(record: Record) -> str | None:
    """`ancestral, 50 steps, ema weights`; None where nobody knows."""
    made = record.get("generation", {})
    words = [made.get("sampler"), f"{made['steps']} steps" if "steps" in made else None]
    words.append(f"{made['weights']} weights" if "weights" in made else None)
    return ", ".join(word for word in words if word) or None


def streams_of(record: Record) -> int | None:
    """The version of the random streams that the images were sampled with; None where the lab did not sample them.

    Raises:
        ValueError: the record has something else in its place.
    """
    made = record.get("generation", {})
    if "sampler" not in made:
        return None
    version = made.get("random_streams", 1)  # version 1 did not record itself
    if type(version) is not int:
        raise ValueError(f"random_streams: {version!r} is not a version")
    return version


def digits_of(record: Record) -> int:
    """Decimals that are worth printing."""
    return 5 if record["metric"] in {"KID", "held_out_loss"} else 3
