"""Metrics from images: each value with the protocol that it depends on, and the floor beside it."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ddpm_lab import distributed
from ddpm_lab.build import build_extractor
from ddpm_lab.choice import Choice
from ddpm_lab.files import write_whole
from ddpm_lab.interval import BLOCKS, Moments, frechet_interval
from ddpm_lab.neighbours import MANIFOLD, NEIGHBOURS, density_coverage, precision_recall
from ddpm_lab.progress import Progress, say
from ddpm_lab.records import Protocol, Record
from ddpm_lab.rng import generator
from registry.datasets import ImageSet
from registry.datasets.cache import cache_folder
from registry.errors import BadInput
from registry.features import Extractor

BATCH = 500
KID_SUBSETS = 100
KID_SUBSET = 1000
KEPT = 10_000  # features, at most, for the kernel distance
Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Statistics:
    """What is kept of features [N, D], however many: their sum, the sum of their outer products, N, and some of them."""

    total: Tensor  # [D] float64
    outer: Tensor  # [D, D] float64
    count: Tensor  # int64
    some: Tensor  # [<= KEPT, D] float32, evenly spread; a kernel distance needs more than moments

    @property
    def moments(self) -> Moments:
        """Those of all features."""
        return Moments(self.total, self.outer, self.count)


@dataclass(frozen=True)
class Measured(Statistics):
    """Statistics of images that are judged, with the moments of disjoint parts of them: an interval needs those."""

    blocks: Moments


class _Sum:
    """Statistics in the making."""

    def __init__(self, dimension: int, total: int, blocks: int) -> None:
        self.sums = torch.zeros(blocks, dimension + 1, dimension, dtype=torch.float64)
        self.counts = torch.zeros(blocks, dtype=torch.int64)
        self.stride = max(total // KEPT, 1)
        self.some: list[Tensor] = []

    def add(self, start: int, features: Tensor) -> None:
        """Features [B, D], float64, of the images from number `start` on."""
        blocks = len(self.counts)
        for block in range(blocks):
            own = features[(block - start) % blocks :: blocks]  # image i is in block i mod their number
            self.sums[block, 0] += own.sum(dim=0)
            self.sums[block, 1:] += own.T @ own
            self.counts[block] += len(own)
        self.some.append(features[-start % self.stride :: self.stride].float())

    def over_processes(self) -> None:
        """Add up what the processes have, the main one getting the whole; they were dealt the batches in turn."""
        distributed.sum_of(self.sums)
        distributed.sum_of(self.counts)
        self.some = distributed.collected(self.some)

    def statistics(self) -> Measured:
        some = torch.cat(self.some)[:KEPT].contiguous() if self.some else self.sums[0, :0].float()
        blocks = Moments(self.sums[:, 0], self.sums[:, 1:], self.counts)
        whole = blocks.without(())
        return Measured(whole.total, whole.outer, whole.count, some, blocks)


class Evaluator:
    """One extractor and one reference, for any number of image sets."""

    def __init__(self, choice: Choice, data: ImageSet, device: torch.device) -> None:
        """Loads the extractor and the reference statistics, from the cache where they are known.

        Raises:
            BadInput: the extractor's weights cannot be had.
        """
        self.name = choice.name
        self.device = device
        self.data = data
        self.extractor: Extractor = build_extractor(choice)
        self.reference = self._reference()
        self._floors: dict[int, tuple[dict[str, float], dict[str, Interval]]] = {}

    def protocol(self, metric: str, n: int) -> Protocol:
        """The protocol of a value over n images."""
        against, held = len(self.reference.some), min(n, KEPT)
        detail = {
            "KID": f" ({KID_SUBSETS} subsets of {min(KID_SUBSET, n)} against {against})",
            **dict.fromkeys(("precision", "recall"), f" (k = {MANIFOLD}, {held} against {against})"),
            **dict.fromkeys(("density", "coverage"), f" (k = {NEIGHBOURS}, {held} against {against})"),
        }
        return Protocol(
            metric + detail.get(metric, ""), self.name, self.extractor.hash, self.extractor.resize, "uint8, rounded to nearest",
            f"{self.data.name}/train, {len(self.data.train)} images", self.data.train.hash, n,
        )  # fmt: skip

    def features(self, images: Tensor) -> Tensor:
        """Features [B, D], float64, of a batch of uint8 images."""
        return self.extractor(images.to(self.device))[0].double().cpu()

    def values(self, images: Statistics) -> dict[str, float]:
        """FID and KID of images against the reference."""
        return {"FID": frechet(self.reference, images), "KID": kernel(self.reference, images)}

    def all_values(self, images: Statistics) -> dict[str, float]:
        """Besides these, where there are enough images, how the two sets lie among each other's neighbours."""
        found, ours, theirs = self.values(images), images.some, self.reference.some
        if min(len(ours), len(theirs)) > NEIGHBOURS:
            found["precision"], found["recall"] = precision_recall(ours, theirs)
            found["density"], found["coverage"] = density_coverage(ours, theirs)
        return found

    def intervals(self, images: Measured) -> dict[str, Interval]:
        """The 95 % interval of a metric's mean over other images of the same making, where one is known."""
        return {"FID": frechet_interval(self.reference.moments, images.blocks)}

    def floor(self, n: int) -> tuple[dict[str, float], dict[str, Interval], int]:
        """The values of n held-out images, their intervals, and how many there were: what perfect samples would score."""
        n = min(n, len(self.data.test))
        if n not in self._floors:
            chosen = torch.randperm(len(self.data.test), generator=generator(0, "floor"))[:n]
            batches = numbered(self.data.test.rows(part) for part in chosen.split(BATCH))
            held_out = measure([self], batches, n, "floor", passing=True, blocks=BLOCKS)[0]
            self._floors[n] = self.all_values(held_out), self.intervals(held_out)
        return (*self._floors[n], n)

    def results(self, images: Measured, generation: dict[str, Any]) -> list[Record]:
        """One record for each metric: value, interval, floor, protocol, how the images were made."""
        n = int(images.count)
        floors, floor_intervals, floor_n = self.floor(n)
        intervals, records = self.intervals(images), []
        for metric, value in self.all_values(images).items():
            if metric not in floors:
                continue  # too few images are held out to say what real ones would score
            protocol = self.protocol(metric, n)
            records.append(
                {
                    "metric": metric, "extractor": self.name, "value": value, "interval": intervals.get(metric), "n": n,
                    "floor": floors[metric], "floor_interval": floor_intervals.get(metric), "floor_n": floor_n,
                    "fingerprint": protocol.fingerprint, "protocol": asdict(protocol), "generation": generation,
                }
            )  # fmt: skip
        return records

    def _reference(self) -> Statistics:
        known = {
            "extractor": self.name, "extractor_hash": self.extractor.hash, "resize": self.extractor.resize,
            "reference": self.data.train.hash, "kept": str(KEPT),
        }  # fmt: skip
        key = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
        file = cache_folder() / "reference" / f"{self.name}-{key}.safetensors"
        try:
            with safe_open(file, "pt") as stored:
                if stored.metadata() == known:
                    return Statistics(*(stored.get_tensor(name) for name in ("total", "outer", "count", "some")))
        except Exception:  # absent or damaged: it is computed again
            pass
        train = self.data.train
        found = measure([self], numbered(train.batches(BATCH)), len(train), "reference")[0]
        reference = Statistics(found.total, found.outer, found.count, found.some)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, lambda path: path.write_bytes(save(vars(reference), metadata=known)))
        except OSError as error:
            say(f"reference statistics are not cached ({error}); the next evaluation computes them again")
        return reference


class _Precomputed(nn.Module):
    """A feature network for torchmetrics that is handed features instead of images."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.num_features = dimension

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet(reference: Statistics, images: Statistics) -> float:
    """Frechet distance of two Gaussians fitted to the features (Heusel et al. 2017, eq. 6), by torchmetrics in float64."""
    from torchmetrics.image.fid import FrechetInceptionDistance  # slow to import

    # It would add up what the processes have, which is added up already.
    metric = FrechetInceptionDistance(feature=_Precomputed(len(reference.total)), sync_on_compute=False)
    metric.update(torch.zeros_like(reference.outer), real=False)  # it has to have seen something
    # torchmetrics takes stored statistics nowhere, but these three sums are all that it keeps of either set.
    for side, statistics in (("real", reference), ("fake", images)):
        setattr(metric, f"{side}_features_sum", statistics.total.clone())
        setattr(metric, f"{side}_features_cov_sum", statistics.outer.clone())
        setattr(metric, f"{side}_features_num_samples", statistics.count.clone())
    return float(metric.compute())


def kernel(reference: Statistics, images: Statistics) -> float:
    """Squared MMD with the cubic kernel, mean over subsets (Binkowski et al. 2018, section 4), by torchmetrics."""
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(KID_SUBSET, len(images.some), len(reference.some))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # it warns of the memory that its features take, which is meant here
        torch.manual_seed(0)
        metric = KernelInceptionDistance(
            feature=_Precomputed(len(reference.total)), subsets=KID_SUBSETS, subset_size=size, sync_on_compute=False
        )
        metric.update(reference.some.double(), real=True)
        metric.update(images.some.double(), real=False)
        mean, _ = metric.compute()
    return float(mean)


def unavailable(choice: Choice, error: BadInput) -> Record:
    """The record of a metric whose extractor cannot be had."""
    return {"metric": "FID", "extractor": choice.name, "value": None, "unavailable": str(error)}


def evaluators(choices: Iterable[Choice], data: ImageSet, device: torch.device) -> tuple[list[Evaluator], list[Record]]:
    """The evaluators that can be had, and a record for each one that cannot."""
    ready, missing = [], []
    for choice in choices:
        try:
            ready.append(Evaluator(choice, data, device))
        except BadInput as error:
            say(f"{choice.name} is unavailable: {error}")
            missing.append(unavailable(choice, error))
    return ready, missing


def numbered(batches: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Batches of images, each with the index of its first image."""
    start = 0
    for images in batches:
        yield start, images
        start += len(images)


def measure(
    ready: list[Evaluator], batches: Iterable[tuple[int, Tensor]], total: int, what: str,
    *, passing: bool = False, shared: bool = False, blocks: int = 1,
) -> list[Measured]:  # fmt: skip
    """The statistics of the images for each evaluator; each image is drawn once and none is kept.

    `blocks`: so many disjoint parts have moments of their own.
    `shared`: each process brings the batches that were dealt to it, and the main one gets the statistics of all.
    """
    sums = [_Sum(evaluator.extractor.dimension, total, blocks) for evaluator in ready]
    with Progress(what, total, passing=passing) as bar:
        for start, images in batches:
            for found, evaluator in zip(sums, ready, strict=True):
                found.add(start, evaluator.features(images))
            bar.advance(min(len(images) * (distributed.size() if shared else 1), total - bar.done))
    if shared:
        for found in sums:
            found.over_processes()
    return [found.statistics() for found in sums]


def evaluate_images(
    ready: list[Evaluator], batches: Iterable[tuple[int, Tensor]], total: int, generation: dict[str, Any]
) -> list[Record]:
    """All metrics of the images, from all evaluators; in several processes, in the main one."""
    if not ready:
        return []
    measured = measure(ready, batches, total, "evaluating", shared=True, blocks=BLOCKS)
    if not distributed.is_main():
        return []
    return [
        result for evaluator, images in zip(ready, measured, strict=True) for result in evaluator.results(images, generation)
    ]
