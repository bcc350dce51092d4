"""Measurements as they are kept: value, interval, floor, protocol, how the images were made; and the files that hold them.

The process that uploads to W&B reads them too, so nothing here imports torch before it is needed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from ddpm_lab.storage.json_text import VERSION, read_record

Interval = tuple[float, float]
Kind = Literal["nfe", "ema", "guidance"]  # what a curve is over
Word = str | int | float | bool | None
Generation = Mapping[str, Word]  # how images were made, in plain words: the lab's own, or whatever an .npz from elsewhere says


@dataclass(frozen=True)
class Protocol:
    """All that a value depends on besides the images; what a file does not say is empty."""

    metric: str = ""
    extractor: str = ""
    extractor_hash: str = ""
    resize: str = ""
    quantisation: str = ""
    reference: str = ""
    reference_hash: str = ""
    n: int = 0

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits; two values may be ranked only where these agree."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Measurement:
    """A value of a metric, or why there is none."""

    metric: str
    extractor: str  # or pixels, or network
    value: float | None
    caveat: str | None = None  # of the extractor on these data
    interval: Interval | None = None  # 95 %
    n: int = 0
    floor: float | None = None  # of so many held-out images
    floor_interval: Interval | None = None
    floor_n: int = 0
    detail: Mapping[str, float | None] | None = None
    fingerprint: str = ""
    protocol: Protocol = Protocol()
    generation: Generation = field(default_factory=dict)
    higher: bool | None = None  # is better; None: ask the registry, for files of older runs do not say
    digits: int | None = None  # decimals that are worth printing
    unavailable: str | None = None  # why there is no value
    failed: bool = False  # whether that is the network's own fault
    covered: tuple[str, ...] | None = None  # of a value over buckets of log SNR: those wholly on the path
    covariance: tuple[tuple[float | None, ...], ...] | None = None  # of the means of all buckets
    buckets: tuple[str, ...] | None = None  # those that the value is the mean of
    version: int = VERSION

    @property
    def measured_by(self) -> str:
        """`fashion_cnn`, or `fashion_cnn, not made for this data`."""
        return ", ".join(filter(None, (self.extractor, self.caveat)))

    @property
    def made_by(self) -> str:
        """`ancestral, 50 steps, ema weights`; nothing where nobody knows."""
        made = self.generation
        words = [made.get("sampler"), f"{made['steps']} steps" if "steps" in made else None]
        words.append(f"{made['weights']} weights" if "weights" in made else None)
        return ", ".join(str(word) for word in words if word)

    @property
    def streams(self) -> int | None:
        """The version of the random streams that the images were sampled with; None where the lab did not sample them.

        Raises:
            ValueError: the record has something else in its place.
        """
        if "sampler" not in self.generation:
            return None
        version = self.generation.get("random_streams", 1)  # version 1 did not record itself
        if type(version) is not int:
            raise ValueError(f"random_streams: {version!r} is not a version")
        return version

    @property
    def higher_is_better(self) -> bool:
        """Of two values, whether the higher one is better."""
        return bool(_declared(self.metric, "higher") if self.higher is None else self.higher)

    def number(self, value: float | None) -> str:
        """A value of this metric as text, with the decimals that are worth printing; nothing for None."""
        digits = _declared(self.metric, "digits") if self.digits is None else self.digits
        return "" if value is None else f"{value:.{3 if digits is None else digits}f}"

    def around(self, interval: Interval | None) -> str:
        """`3.05 to 3.37`."""
        return f"{self.number(interval[0])} to {self.number(interval[1])}" if interval else ""


@dataclass(frozen=True)
class RunResult:
    """The result of a finished run; what a file of an older run does not say is None, or 0."""

    metrics: tuple[Measurement, ...]  # the main metric first
    run: str = ""
    images: int = 0  # seen in training
    budget: str | None = None
    parameters: int | None = None
    flops_per_image: float | None = None  # forward
    peak_gigabytes: float | None = None
    training_seconds: float | None = None
    sampling_seconds: float | None = None
    evaluation_seconds: float | None = None
    skipped_steps: int = 0
    images_before: int | None = 0  # of all training that led to the weights it started from; None where nobody knows
    seconds_before: float | None = 0.0
    version: int = VERSION

    @property
    def images_in_all(self) -> int | None:
        """Seen in training, with those of the weights that it started from."""
        return None if self.images_before is None else self.images_before + self.images

    @property
    def training_in_all(self) -> float | None:
        """Seconds of training, with those of the weights that it started from."""
        if self.training_seconds is None or self.seconds_before is None:
            return None
        return self.training_seconds + self.seconds_before

    @property
    def of_main(self) -> list[Measurement]:
        """The values of the metric that stands for all."""
        return [one for one in self.metrics if one.value is not None and one.metric == self.metrics[0].metric]

    @property
    def by_name(self) -> dict[str, float | str]:
        """Values as `FID/fashion_cnn` and the like, each with the fingerprint of its protocol."""
        values: dict[str, float | str] = {}
        for one in self.metrics:
            if one.value is not None:
                name = f"{one.metric}/{one.extractor}"
                # A mean over other buckets of log SNR is another quantity, though the protocol of each bucket is the same.
                over = f" over {'; '.join(one.buckets)}" if one.buckets else ""
                values |= {name: one.value, f"{name}/fingerprint": one.fingerprint + over}
        return values


@dataclass(frozen=True)
class CurvePoint:
    """A way of sampling, what an image costs so, and its main metric in each extractor."""

    curve: str
    at: int | float | str  # its place on the curve
    generation: Generation
    weights: str  # SHA-256 of the file
    evaluations: float  # of the network, for an image
    seconds: float
    metrics: tuple[Measurement, ...]
    version: int = VERSION

    @property
    def fingerprints(self) -> set[str]:
        """Of its values."""
        return {one.fingerprint for one in self.metrics}

    def named(self, kind: Kind) -> str:
        """Its place on a curve of that kind in words."""
        words = {"nfe": f"{self.curve}, {self.at} steps", "ema": f"{self.at} weights", "guidance": f"guidance scale {self.at}"}
        return words[kind]

    def value_of(self, extractor: str) -> Measurement:
        """Its value in that extractor."""
        return next(one for one in self.metrics if one.extractor == extractor)


_MEASUREMENTS = TypeAdapter(tuple[Measurement, ...])
_RESULT = TypeAdapter(RunResult)
_POINTS = TypeAdapter(list[CurvePoint])


def read_measurements(file: Path) -> tuple[Measurement, ...]:
    """Those of a result.json or an evaluation.

    Raises:
        OSError: the file cannot be read.
        BadInput: it does not hold measurements, or those of a newer version.
    """
    return read_record(file, _MEASUREMENTS, within="metrics")


def read_result(file: Path) -> RunResult:
    """The result of a run.

    Raises:
        OSError, BadInput: as above.
    """
    return read_record(file, _RESULT)


def read_points(file: Path) -> list[CurvePoint]:
    """The points of a curve.

    Raises:
        OSError, BadInput: as above.
    """
    return read_record(file, _POINTS)


def plain(record: Any) -> Any:
    """Records, alone or in lists and mappings, as JSON has them: of a measurement what it says, of one without a value why."""
    if isinstance(record, Measurement):
        told = {one.name: getattr(record, one.name) for one in dataclasses.fields(record)}
        without = (*_SPECIAL, *told) if record.value is None else _SPECIAL
        silent: tuple[object, ...] = (None, False, 0, "", {}, (), Protocol())
        return plain({key: value for key, value in told.items() if key == "value" or key not in without or value not in silent})
    if dataclasses.is_dataclass(record):
        return {one.name: plain(getattr(record, one.name)) for one in dataclasses.fields(record)}
    if isinstance(record, Mapping):
        return {key: plain(value) for key, value in record.items()}
    return [plain(one) for one in record] if isinstance(record, (list, tuple)) else record


_SPECIAL = ("unavailable", "failed", "covered", "covariance", "buckets")  # left out where there is nothing to say


def unavailable(metric: str, extractor: str, why: str, *, failed: bool = False) -> Measurement:
    """The record of a value that cannot be had; `failed`: of one, or of images, that are NaN or infinite."""
    return Measurement(metric, extractor, None, unavailable=why, failed=failed)


def settled(record: Measurement) -> Measurement:
    """The record, or where its value is NaN or infinite one that says so; an interval or a floor that is, is none."""
    if record.value is not None and not math.isfinite(record.value):
        return unavailable(record.metric, record.extractor, f"the value is not finite ({record.value})", failed=True)
    interval, floor_interval = (
        pair if pair is None or all(map(math.isfinite, pair)) else None for pair in (record.interval, record.floor_interval)
    )
    floor = record.floor if record.floor is None or math.isfinite(record.floor) else None
    return replace(record, interval=interval, floor=floor, floor_interval=floor_interval)


def failures(records: Sequence[Measurement]) -> list[str]:
    """Why the main metric, the first, could not be measured, where that is the network's own fault; each reason once."""
    return list(dict.fromkeys(str(one.unavailable) for one in records if one.failed and one.metric == records[0].metric))


def difference(one: Measurement, other: Measurement) -> str:
    """The fields of the protocol that keep two records apart: `n: 2000 against 500`."""
    ours, theirs = asdict(one.protocol), asdict(other.protocol)
    return "; ".join(f"{key}: {ours[key]} against {theirs[key]}" for key in ours if ours[key] != theirs[key])


def _declared(metric: str, trait: str) -> Any:
    """What the registry says of a metric that it knows; else None."""
    from registry.metrics import METRICS  # imports torch

    return getattr(METRICS.part(metric).traits, trait) if metric in METRICS else None
