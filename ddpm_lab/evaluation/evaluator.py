"""One extractor and one reference: images become features, and features become values with their protocol and floor."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet

import torch
from torch import Tensor

from ddpm_lab.evaluation import reference_cache
from ddpm_lab.evaluation.accumulator import Accumulator, gather, numbered
from ddpm_lab.evaluation.extractors import CAVEAT, suits, tried_extractor
from ddpm_lab.evaluation.feature_sums import FeatureSums, can_tell_apart
from ddpm_lab.evaluation.pixels import QUANTISATION
from ddpm_lab.evaluation.values import Floors, in_words, record_of, values
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.seeding import protocol_generator
from ddpm_lab.runtime.signals import NotFinite
from ddpm_lab.storage.measurement import Generation, Measurement, Protocol, unavailable
from registry.choice import Choice
from registry.datasets import ImageSet
from registry.errors import BadInput
from registry.metrics import METRICS, InFeatures, Value
from registry.metrics.gathered import KEPT, Measured, Statistics
from registry.metrics.interval import BLOCKS

BATCH, CHUNK = 500, 50  # images that are fetched at once, and shown to the extractor at once on a CPU


class Evaluator:
    """One extractor and one reference, for any number of image sets."""

    def __init__(
        self, choice: Choice, data: ImageSet, device: torch.device, wanted: AbstractSet[str] | None = None
    ) -> None:  # fmt: skip
        """Loads the extractor and the reference statistics, from the cache where they are known. The main metric is measured,
        and of the others those that are `wanted`, by default the usual ones.

        Raises:
            BadInput: the extractor's weights cannot be had, or it fails.
        """
        self.name, self.data, self.device = choice.name, data, device
        self.wanted = (METRICS.usual() if wanted is None else wanted) | {METRICS.main}
        self.caveat = None if suits(choice, data) else CAVEAT
        self.extractor = tried_extractor(choice, data, device)
        self.reference = self._reference()
        self._floors: dict[tuple[int, bool], dict[str, Value]] = {}

    def protocol(self, metric: str, n: int) -> Protocol:
        """The protocol of a value over n images."""
        return Protocol(
            in_words(metric, n, len(self.reference.some)), self.name, self.extractor.hash, self.extractor.resize, QUANTISATION,
            f"{self.data.name}/train, {len(self.data.train)} images", self.data.train.hash, n,
        )  # fmt: skip

    def features(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features [B, D], float64, and logits [B, K] of a batch of uint8 images."""
        if images.dtype != torch.uint8:
            raise BadInput(
                f"images of {images.dtype}: they are evaluated as uint8, rounded; see ddpm_lab.diffusion.process.to_uint8"
            )
        # What a CPU has just written it reads again sooner where it is little; a GPU wants much at once.
        parts = images.to(self.device).split(CHUNK if self.device.type == "cpu" else len(images))
        features, logits = zip(*(self.extractor(part) for part in parts), strict=True)
        return torch.cat(features).cpu().double(), None if logits[0] is None else torch.cat(logits)

    def sums(self, total: int, groups: int, labels: Tensor | None) -> FeatureSums:
        """For images that are to be measured: their labels [total] where they were asked for by class.

        Of one group, as while a run trains, no more is kept than the distances need.
        """
        answers = self.extractor.classes if groups > 1 and METRICS.needing(self.wanted, "logits", "classes") else None
        return FeatureSums(self.features, self.extractor.dimension, total, groups, labels, self.data.classes, answers)

    def values_during(self, images: Measured) -> dict[str, float]:
        """The metrics that are measured while a run trains.

        Raises:
            NotFinite: the features are not.
        """
        _require_finite(images)
        found = values(self._seen(images), self.wanted, during=True)
        return {metric: value.value for metric, value in found.items() if value.value is not None}

    def all_values(self, images: Measured) -> dict[str, Value]:
        """All metrics that are wanted, and that the extractor, the data and the images allow."""
        return values(self._seen(images), self.wanted)

    def floor(self, n: int, by_class: bool = False) -> Floors:
        """The values of n held-out images, and how many there were: what perfect samples would score."""
        n = min(n, len(self.data.test))
        if n < 2:
            return {}, n  # one image has no distribution
        if (n, by_class) not in self._floors:
            chosen = torch.randperm(len(self.data.test), generator=protocol_generator("floor"))[:n]
            labels = None if self.data.test.labels is None or not by_class else self.data.test.labels[chosen]
            batches = numbered(self.data.test.rows(part) for part in chosen.split(BATCH))
            (held_out,) = measure([self], batches, n, "floor", labels=labels, passing=True, blocks=BLOCKS)
            self._floors[n, by_class] = {} if held_out.not_finite else self.all_values(held_out)
        return self._floors[n, by_class], n

    def results(self, images: Measured, generation: Generation) -> list[Measurement]:
        """One record for each metric: value, interval, floor, protocol, how the images were made."""
        if images.not_finite:
            return [unavailable(METRICS.main, self.name, _not_finite(images), failed=True)]
        return self._records(images, generation, self.wanted)

    def main_result(self, images: Measured, generation: Generation) -> Measurement:
        """The record of the main metric alone, where many sets are compared.

        Raises:
            NotFinite: the features are not.
        """
        _require_finite(images)
        (record,) = self._records(images, generation, {METRICS.main})
        return record

    def _records(self, images: Measured, generation: Generation, wanted: Collection[str]) -> list[Measurement]:
        n = int(images.moments.count)
        # Too few images may be held out to say what real ones would score.
        floors = self.floor(n, images.by_class is not None)
        return [
            record_of(metric, found, self.protocol(metric, n), generation, floors, self.caveat)
            for metric, found in values(self._seen(images), wanted).items()
        ]

    def _seen(self, images: Measured) -> InFeatures:
        names = self.data.class_names
        if names is not None and len(self.reference.groups.count) != len(names):
            names = None
        return InFeatures(images, self.reference, names, names is not None and self.extractor.class_names == names)

    def _reference(self) -> Statistics:
        train = self.data.train
        apart = train.labels is not None and can_tell_apart(self.data.classes, self.extractor.dimension)
        groups = (self.data.classes or 1) if apart else 1
        known = {
            "extractor": self.name, "extractor_hash": self.extractor.hash, "resize": self.extractor.resize,
            "quantisation": QUANTISATION, "reference": train.hash, "images": str(len(train)), "groups": str(groups),
            "kept": f"{KEPT} at random",
        }  # fmt: skip
        if (found := reference_cache.cached(known)) is not None:
            return found
        dimension, classes = self.extractor.dimension, self.data.classes
        sums = FeatureSums(self.features, dimension, len(train), groups, train.labels, classes, by_label=apart)
        gather([sums], numbered(train.batches(BATCH)), len(train), "reference")
        measured = sums.measured()
        if measured.not_finite:
            raise BadInput(f"evaluate.features: '{self.name}': {_not_finite(measured)}, though they are training images")
        found = Statistics(measured.groups, measured.some)
        try:
            reference_cache.keep(found, known)
        except OSError as error:
            say(f"reference statistics are not cached ({error}); the next evaluation computes them again")
        return found


def measure(
    ready: Sequence[Evaluator], batches: Iterable[tuple[int, Tensor]], total: int, what: str, *, labels: Tensor | None = None,
    passing: bool = False, shared: bool = False, blocks: int = 1, others: Sequence[Accumulator] = (),
) -> list[Measured]:  # fmt: skip
    """The statistics of the images for each evaluator, in so many blocks; `others` see the same images.

    With one block there is no more than the distances need.
    """
    sums = [evaluator.sums(total, blocks, labels) for evaluator in ready]
    gather([*sums, *others], batches, total, what, passing=passing, shared=shared)
    return [one.measured() for one in sums]


def _not_finite(images: Measured) -> str:
    count = int(images.moments.count)
    return f"the features of {images.not_finite:,} of {count:,} images are not finite (they hold NaN or infinite numbers)"


def _require_finite(images: Measured) -> None:
    if images.not_finite:
        raise NotFinite(_not_finite(images))
