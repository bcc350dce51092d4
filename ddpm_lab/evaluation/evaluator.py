"""Metrics from images: each value with the protocol that it depends on, and the floor beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict
from typing import Any
from typing import Protocol as Interface

import torch
from torch import Tensor

from ddpm_lab.config.part import Choice
from ddpm_lab.diffusion.build import build_extractor
from ddpm_lab.evaluation import reference_cache as reference
from ddpm_lab.evaluation.features import KEPT, FeatureSums, Measured, Statistics, can_tell_apart
from ddpm_lab.evaluation.interval import BLOCKS
from ddpm_lab.evaluation.measurement import Protocol, Record, not_finite, settled, unavailable
from ddpm_lab.evaluation.memorization import Memorisation, PixelSample
from ddpm_lab.evaluation.prdc import MANIFOLD, NEIGHBOURS
from ddpm_lab.evaluation.scores import KID_SUBSET, KID_SUBSETS, Value, all_values, answered, distance, frechet, kernel
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.console import Progress, say
from ddpm_lab.runtime.launcher import is_main
from ddpm_lab.runtime.seeding import protocol_generator
from ddpm_lab.runtime.signals import NotFinite
from registry.blame import PartFails, on_behalf_of
from registry.datasets import ImageSet
from registry.errors import BadInput
from registry.features import Extractor, made_for
from registry.metrics import USUAL
from registry.plugins import REGISTRIES

BATCH, CHUNK = 500, 50  # images that are fetched at once, and shown to the extractor at once on a CPU
CAVEAT = "not made for this data"
QUANTISATION = "uint8, rounded to nearest"


class Evaluator:
    """One extractor and one reference, for any number of image sets."""

    def __init__(
        self, choice: Choice, data: ImageSet, device: torch.device, wanted: AbstractSet[str] = USUAL
    ) -> None:  # fmt: skip
        """Loads the extractor and the reference statistics, from the cache where they are known. Of the metrics beside the FID
        those are measured that are `wanted`.

        Raises:
            BadInput: the extractor's weights cannot be had, or it fails.
        """
        self.name, self.wanted = choice.name, wanted
        self.caveat = None if suits(choice, data) else CAVEAT
        self.device = device
        self.data = data
        self.extractor = tried_extractor(choice, data, device)
        self.reference = self._reference()
        self._floors: dict[tuple[int, bool, bool], dict[str, Value]] = {}

    def protocol(self, metric: str, n: int) -> Protocol:
        """The protocol of a value over n images."""
        against, held = f"{len(self.reference.some)} at random", min(n, KEPT)
        detail = {
            "KID": f" ({KID_SUBSETS} subsets of {min(KID_SUBSET, n)} against {against})",
            "IS": f" ({BLOCKS} random groups)",
            "FID_infinity": f" (a line over 1 / N, {BLOCKS} blocks)",
            "class_FID": " (mean over the classes)",
            "class_shares": " (total variation)",
            **dict.fromkeys(("precision", "recall"), f" (k = {MANIFOLD}, {held} against {against})"),
            **dict.fromkeys(("density", "coverage"), f" (k = {NEIGHBOURS}, {held} against {against})"),
        }
        return Protocol(
            metric + detail.get(metric, ""), self.name, self.extractor.hash, self.extractor.resize, QUANTISATION,
            f"{self.data.name}/train, {len(self.data.train)} images", self.data.train.hash, n,
        )  # fmt: skip

    def features(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features [B, D], float64, and logits [B, K] of a batch of uint8 images."""
        if images.dtype != torch.uint8:
            raise BadInput(
                f"images of {images.dtype}: they are judged as uint8, rounded; see ddpm_lab.diffusion.process.to_uint8"
            )
        # What a CPU has just written it reads again sooner where it is little; a GPU wants much at once.
        parts = images.to(self.device).split(CHUNK if self.device.type == "cpu" else len(images))
        features, logits = zip(*(self.extractor(part) for part in parts), strict=True)
        return torch.cat(features).double().cpu(), None if logits[0] is None else torch.cat(logits)

    def values(self, images: Statistics) -> dict[str, float]:
        """FID and KID of images against the reference.

        Raises:
            NotFinite: the features are not.
        """
        _require_finite(images)
        found = {"FID": frechet(self.reference.moments, images.moments)}
        return found | ({"KID": kernel(self.reference, images)} if "KID" in self.wanted else {})

    def all_values(self, images: Measured, extrapolate: bool = False) -> dict[str, Value]:
        """All metrics that the extractor, the data and the images allow."""
        names = self.data.class_names
        found = all_values(self.reference, images, names, extrapolate, self.wanted)
        if names is not None and self.extractor.class_names == names and len(self.reference.groups.count) == len(names):
            said = answered(self.reference, images, names)
            found |= {metric: value for metric, value in said.items() if metric in self.wanted}
        return found

    def floor(self, n: int, by_class: bool = False, extrapolate: bool = False) -> tuple[dict[str, Value], int]:
        """The values of n held-out images, and how many there were: what perfect samples would score."""
        n = min(n, len(self.data.test))
        if n < 2:
            return {}, n  # one image has no distribution
        if (n, by_class, extrapolate) not in self._floors:
            chosen = torch.randperm(len(self.data.test), generator=protocol_generator("floor"))[:n]
            labels = None if self.data.test.labels is None or not by_class else self.data.test.labels[chosen]
            batches = numbered(self.data.test.rows(part) for part in chosen.split(BATCH))
            (held_out,) = measure([self], batches, n, "floor", labels=labels, passing=True, blocks=BLOCKS)
            found = {} if held_out.not_finite else self.all_values(held_out, extrapolate)
            self._floors[n, by_class, extrapolate] = found
        return self._floors[n, by_class, extrapolate], n

    def results(self, images: Measured, generation: dict[str, Any], extrapolate: bool = False) -> list[Record]:
        """One record for each metric: value, interval, floor, protocol, how the images were made."""
        if images.not_finite:
            return [not_finite("FID", self.name, _not_finite(images))]
        return self._records(self.all_values(images, extrapolate), images, generation, extrapolate)

    def distance(self, images: Measured, generation: dict[str, Any]) -> Record:
        """The record of the FID alone, where many sets are compared.

        Raises:
            NotFinite: the features are not.
        """
        _require_finite(images)
        (record,) = self._records({"FID": distance(self.reference, images)}, images, generation)
        return record

    def _records(
        self, values: dict[str, Value], images: Measured, generation: dict[str, Any], extrapolate: bool = False
    ) -> list[Record]:
        n = int(images.moments.count)
        floors, floor_n = self.floor(n, images.by_class is not None, extrapolate)
        records = []
        for metric, found in values.items():
            # Too few images may be held out to say what real ones would score.
            protocol, floor = self.protocol(metric, n), floors.get(metric, Value(None))
            records.append(
                settled({
                    "metric": metric, "extractor": self.name, "caveat": self.caveat,
                    "value": found.value, "interval": found.interval, "n": n, "floor": floor.value,
                    "floor_interval": floor.interval, "floor_n": floor_n, "detail": found.detail,
                    "fingerprint": protocol.fingerprint, "protocol": asdict(protocol), "generation": generation,
                })
            )  # fmt: skip
        return records

    def sums(self, total: int, groups: int, labels: Tensor | None, answers: bool) -> FeatureSums:
        """For images that are to be measured: their labels [total] where they were asked for by class."""
        return FeatureSums(
            self.extractor.dimension, total, groups, labels, self.data.classes, self.extractor.classes if answers else None
        )

    def _reference(self) -> Statistics:
        train = self.data.train
        apart = train.labels is not None and can_tell_apart(self.data.classes, self.extractor.dimension)
        groups = (self.data.classes or 1) if apart else 1
        known = {
            "extractor": self.name, "extractor_hash": self.extractor.hash, "resize": self.extractor.resize,
            "quantisation": QUANTISATION, "reference": train.hash, "images": str(len(train)), "groups": str(groups),
            "kept": f"{KEPT} at random",
        }  # fmt: skip
        if (found := reference.cached(known)) is not None:
            return found
        sums = FeatureSums(self.extractor.dimension, len(train), groups, train.labels, self.data.classes, by_label=apart)
        gather([_FeatureCollector(self, sums)], numbered(train.batches(BATCH)), len(train), "reference")
        measured = sums.measured()
        if measured.not_finite:
            raise BadInput(f"evaluate.features: '{self.name}': {_not_finite(measured)}, though they are training images")
        found = Statistics(measured.groups, measured.some)
        try:
            reference.keep(found, known)
        except OSError as error:
            say(f"reference statistics are not cached ({error}); the next evaluation computes them again")
        return found


def tried_extractor(choice: Choice, data: ImageSet, device: torch.device) -> Extractor:
    """An extractor that has shown that it takes the images of that data.

    Raises:
        PartFails: it does not, or does not say what it is.
        BadInput: its weights cannot be had.
    """
    if len(data.train) < 2:
        raise BadInput(f"dataset: '{data.name}' has one training image, and a distance between distributions needs two")
    extractor = build_extractor(choice)
    with on_behalf_of("features", choice.name, "cannot judge images"):
        told = ("dimension", "hash", "resize", "classes", "class_names")
        if lacking := [name for name in told if not hasattr(extractor, name)]:
            raise TypeError(f"lacks {', '.join(lacking)}; see registry/features/__init__.py")
        features, logits = extractor(data.train.rows(torch.tensor([0, len(data.train) - 1])).to(device))
        for found, width, what in ((features, extractor.dimension, "features"), (logits, extractor.classes, "logits")):
            if found is not None and tuple(found.shape) != (2, width):
                raise ValueError(f"gives {what} {list(found.shape)} of two images, where [2, {width}] is expected")
    return extractor


class Collector(Interface):
    """What images are shown to, batch after batch; afterwards it knows what a metric needs."""

    def add(self, start: int, images: Tensor) -> None:
        """uint8 images [B, C, H, W], the first of number `start`."""

    def over_processes(self) -> None:
        """Bring together what the processes have, in the main one."""


class _FeatureCollector:
    """Shows images to an extractor."""

    def __init__(self, evaluator: Evaluator, sums: FeatureSums) -> None:
        self.evaluator, self.sums = evaluator, sums

    def add(self, start: int, images: Tensor) -> None:
        self.sums.add(start, *self.evaluator.features(images))

    def over_processes(self) -> None:
        self.sums.over_processes()


def gather(
    collectors: Sequence[Collector], batches: Iterable[tuple[int, Tensor]], total: int, what: str, *, passing: bool = False,
    shared: bool = False,
) -> None:  # fmt: skip
    """Show all images to all collectors; each image is drawn once and none is kept.

    `shared`: each process brings the batches that were dealt to it, and the main one gets what all have seen.
    """
    with Progress(what, total, passing=passing) as bar:
        for start, images in batches:
            for collector in collectors:
                collector.add(start, images)
            bar.advance(min(len(images) * (distributed.size() if shared else 1), total - bar.done))
    if shared:
        for collector in collectors:
            collector.over_processes()


def measure(
    ready: Sequence[Evaluator], batches: Iterable[tuple[int, Tensor]], total: int, what: str, *, labels: Tensor | None = None,
    passing: bool = False, shared: bool = False, blocks: int = 1, others: Sequence[Collector] = (),
) -> list[Measured]:  # fmt: skip
    """The statistics of the images for each evaluator, in so many blocks; `others` see the same images.

    With one block there is no more than the distances need.
    """
    sums = [evaluator.sums(total, blocks, labels, answers=blocks > 1) for evaluator in ready]
    own = [_FeatureCollector(evaluator, one) for evaluator, one in zip(ready, sums, strict=True)]
    gather([*own, *others], batches, total, what, passing=passing, shared=shared)
    return [one.measured() for one in sums]


def _not_finite(images: Measured) -> str:
    count = int(images.moments.count)
    return f"the features of {images.not_finite:,} of {count:,} images are not finite (they hold NaN or infinite numbers)"


def _require_finite(images: Statistics) -> None:
    if isinstance(images, Measured) and images.not_finite:
        raise NotFinite(_not_finite(images))


def suits(choice: Choice, data: ImageSet) -> bool:
    """Whether an extractor was made for such data, as far as it says."""
    return made_for(REGISTRIES["features"].part(choice.name).make).fits(data.image_shape, data.name)


def suited_first(choices: Iterable[Choice], data: ImageSet) -> list[Choice]:
    """Those that were made for such data, then the others."""
    return sorted(choices, key=lambda choice: not suits(choice, data))


def evaluators(
    choices: Iterable[Choice], data: ImageSet, device: torch.device, wanted: AbstractSet[str] = USUAL
) -> tuple[list[Evaluator], list[Record]]:
    """The evaluators that can be had, those made for such data first, and a record for each one that cannot."""
    ready, missing = [], []
    for choice in suited_first(choices, data):
        found, trouble = None, BadInput("another process of this run cannot have it")
        with distributed.first_on_each_machine():
            try:
                found = Evaluator(choice, data, device, wanted)
            except PartFails:
                raise
            except BadInput as error:
                trouble = error
        # What one process measures alone, the others would not add to.
        lacking = distributed.any_of(found is None)
        if found is not None and not lacking:
            ready.append(found)
        else:
            say(f"{choice.name} is unavailable: {trouble}")
            missing.append(unavailable("FID", choice.name, str(trouble)))
    return ready, missing


def numbered(batches: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Batches of images, each with the index of its first image."""
    start = 0
    for images in batches:
        yield start, images
        start += len(images)


def evaluate_images(
    ready: list[Evaluator], batches: Iterable[tuple[int, Tensor]], total: int, generation: dict[str, Any], *,
    labels: Tensor | None = None, extrapolate: bool = False,
) -> list[Record]:  # fmt: skip
    """All metrics of the images, from all evaluators; in several processes, in the main one.

    `labels` [total]: the classes that the images were asked for. `extrapolate`: also the distance of infinitely many.
    Where images or features are not finite, the records say so instead of a value.
    """
    if not ready:
        return []
    pixels = PixelSample(total)
    try:
        measured = measure(
            ready, batches, total, "evaluating", labels=labels, shared=True, blocks=BLOCKS, others=[pixels]
        )  # fmt: skip
    except NotFinite as error:
        return [not_finite("FID", evaluator.name, str(error)) for evaluator in ready]
    if not is_main():
        return []
    records = [
        record
        for evaluator, images in zip(ready, measured, strict=True)
        for record in evaluator.results(images, generation, extrapolate)
    ]
    if "memorisation" not in ready[0].wanted:
        return records
    return [*records, *map(settled, Memorisation(ready[0].data, ready[0].device).results(pixels, generation))]
