"""The images of a subject, sampled and evaluated in whatever way, and what that costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddpm_lab.evaluation.evaluator import BATCH, Evaluator, measure
from ddpm_lab.inference.sampling_overrides import as_described
from ddpm_lab.storage.measurement import Interval
from ddpm_lab.studies.explain import pixels
from ddpm_lab.studies.explain.factors import FACTORS, Way
from ddpm_lab.studies.explain.subject import Subject
from registry.choice import Choice
from registry.datasets import ImageSet
from registry.errors import BadInput
from registry.features import FEATURES, made_for
from registry.metrics import METRICS
from registry.metrics.interval import BLOCKS

KEPT = 2**30  # bytes of images that are kept, so that nothing is sampled twice
SAMPLED = [factor.name for factor in FACTORS.values() if factor.sampled]


@dataclass(frozen=True)
class Found:
    """A value, and its 95 % interval over images."""

    value: float
    interval: Interval | None


@dataclass
class Rate:
    """Seconds for a piece of work, as far as it was done."""

    seconds: float = 0.0
    pieces: float = 0.0

    def of(self, pieces: float) -> float:
        return self.seconds / self.pieces * pieces if self.pieces else 0.0


class Bench:
    """What the values of a subject become."""

    def __init__(
        self, subject: Subject, data: ImageSet, choose: Callable[[str], Choice], device: torch.device
    ) -> None:  # fmt: skip
        """`choose` gives the extractor of a name."""
        self.subject, self.data, self.choose, self.device = subject, data, choose, device
        self.sampling, self.evaluating = Rate(), Rate()
        self._kept: dict[tuple[object, ...], list[Tensor]] = {}
        self._evaluators: dict[tuple[object, ...], Evaluator] = {}

    def require(self, way: Way) -> None:
        """Nothing where images can be had in that way.

        Raises:
            BadInput: they cannot.
        """
        n, run, images = int(str(way["n"])), self.subject.run, self.subject.images
        if images is not None and n > len(images):
            raise BadInput(f"it holds {len(images):,} images")
        if images is not None and way["quantisation"] in (pixels.TRUNCATED, pixels.WRAPPED):
            raise BadInput("the images of an .npz are uint8 already")
        if run is not None:
            as_described(run, way)
        self.choose(str(way["features"]))

    def seconds(self, way: Way) -> float:
        """What the value will take, by what others have taken."""
        n, known = int(str(way["n"])), sum(map(len, self._kept.get(_sampled(way), ())))
        new = 0 if self.subject.run is None else max(n - known, 0)
        reference = 0 if self._key(way) in self._evaluators else len(self.data.train)
        return self.sampling.of(new * float(str(way.get("steps", 0)))) + self.evaluating.of(n + reference)

    def value(self, way: Way) -> Found:
        """The main metric of these images.

        Raises:
            BadInput: it cannot be had: no such extractor or procedure, or images that are not finite.
        """
        evaluator, (alone, _) = self._evaluator(way), self._looks(way)
        n, level = int(str(way["n"])), str(way["quantisation"])
        before, spent = time.monotonic(), self.sampling.seconds
        batches = ((start, alone(pixels.quantised(images, level))) for start, images in self._images(way, n))
        (measured,) = measure([evaluator], batches, n, "evaluating", passing=True, blocks=BLOCKS)
        if measured.not_finite:
            raise BadInput(f"the features of {measured.not_finite:,} images are not finite")
        found = evaluator.all_values(measured)[METRICS.main]
        self.evaluating.seconds += time.monotonic() - before - (self.sampling.seconds - spent)
        self.evaluating.pieces += n
        if found.value is None:
            raise BadInput(found.why)
        return Found(found.value, found.interval)

    def _images(self, way: Way, n: int) -> Iterator[tuple[int, Tensor]]:
        """Batches of float images in [-1, 1], or uint8 where there are no others, each with the number of its first."""
        if self.subject.images is not None:
            yield from ((start, self.subject.images[start : min(start + BATCH, n)]) for start in range(0, n, BATCH))
            return
        run = self.subject.run
        assert run is not None
        start, kept = 0, self._kept.setdefault(_sampled(way), [])
        for images in kept:
            if start < n:
                yield start, images[: n - start]
            start += len(images)
        if start >= n:
            return
        sampling = as_described(run, way)
        sampler = run.sampler(sampling)
        sampler.precision = str(way["precision"])
        labels = sampler.labels(n)
        while start < n:
            before = time.monotonic()
            images = sampler.unrounded(range(start, min(start + sampling.batch, n)), sampling.seed, labels).cpu()
            self.sampling.seconds += time.monotonic() - before
            self.sampling.pieces += len(images) * sampling.steps
            if wrong := int((~images.isfinite()).flatten(1).any(1).sum()):
                raise BadInput(f"{wrong:,} of {len(images):,} sampled images are not finite")
            if start == sum(map(len, kept)) and self._has_room(kept, images.nbytes):
                kept.append(images)
            yield start, images
            start += len(images)

    def _has_room(self, kept: list[Tensor], size: int) -> bool:
        """Make room for so many bytes, at the cost of what was sampled longest ago."""
        for key in [key for key, images in self._kept.items() if images is not kept]:
            if self._bytes() + size <= KEPT:
                break
            del self._kept[key]
        return self._bytes() + size <= KEPT

    def _bytes(self) -> int:
        return sum(images.nbytes for batches in self._kept.values() for images in batches)

    def extractor_size(self, features: str) -> tuple[int, int] | None:
        """H and W of what it takes, where it says so."""
        make = FEATURES.part(features).make
        size: tuple[int, int] | None = getattr(make, "input_size", None) or made_for(make).size
        return size

    def _looks(self, way: Way) -> tuple[pixels.Look, pixels.Look]:
        return pixels.looks(str(way["resize"]), str(way["colour"]), self.extractor_size(str(way["features"])))

    def _key(self, way: Way) -> tuple[object, ...]:
        return way["features"], way["reference"], self._looks(way)[1]

    def _evaluator(self, way: Way) -> Evaluator:
        key = self._key(way)
        if key not in self._evaluators:
            choice, data = self.choose(str(way["features"])), _against(self.data, str(way["reference"]))
            if (look := self._looks(way)[1]) != pixels.Look():
                data = replace(data, train=pixels.Changed(data.train, look), test=pixels.Changed(data.test, look))
            self._evaluators[key] = Evaluator(choice, data, self.device, frozenset({METRICS.main}))
        return self._evaluators[key]


def _sampled(way: Way) -> tuple[object, ...]:
    return tuple(way.get(name) for name in SAMPLED)


def _against(data: ImageSet, reference: str) -> ImageSet:
    """The data set with that half, or the whole, as its reference."""
    if reference == "test":
        return replace(data, train=data.test, test=data.train)
    return data if reference == "train" else replace(data, train=pixels.Joined(data.train, data.test))
