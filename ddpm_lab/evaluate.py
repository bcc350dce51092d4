"""Metrics from images: each value with the protocol that it depends on, and the floor beside it."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ddpm_lab.build import build_extractor
from ddpm_lab.choice import Choice
from ddpm_lab.files import write_whole
from ddpm_lab.progress import Progress, say
from ddpm_lab.rng import generator
from registry.datasets import ImageSet, Split
from registry.datasets.cache import cache_folder
from registry.errors import BadInput
from registry.features import Extractor

BATCH = 500
KID_SUBSETS = 100
KID_SUBSET = 1000
KID_REFERENCE = 10_000  # features of so many reference images are kept; a kernel distance needs more than their moments
Result = dict[str, Any]


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


@dataclass(frozen=True)
class Reference:
    """What is kept of the reference features [N, D]: their sum [D], sum of outer products [D, D], N, and some of them."""

    total: Tensor
    outer: Tensor
    count: Tensor
    some: Tensor


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
        self._floors: dict[int, dict[str, float]] = {}

    def protocol(self, metric: str, n: int) -> Protocol:
        """The protocol of a value over n images."""
        kid = f" ({KID_SUBSETS} subsets of {min(KID_SUBSET, n)} against {len(self.reference.some)})" if metric == "KID" else ""
        return Protocol(
            metric + kid, self.name, self.extractor.hash, self.extractor.resize, "uint8, rounded to nearest",
            f"{self.data.name}/train, {len(self.data.train)} images", self.data.train.hash, n,
        )  # fmt: skip

    def features(self, images: Tensor) -> Tensor:
        """Features [B, D], float64, of a batch of uint8 images."""
        return self.extractor(images.to(self.device))[0].double().cpu()

    def values(self, features: Tensor) -> dict[str, float]:
        """FID and KID of features [N, D] against the reference."""
        return {"FID": frechet(self.reference, features), "KID": kernel(self.reference, features)}

    def floor(self, n: int) -> tuple[dict[str, float], int]:
        """The values of n held-out images, and how many there were: what perfect samples would score."""
        n = min(n, len(self.data.test))
        if n not in self._floors:
            chosen = torch.randperm(len(self.data.test), generator=generator(0, "floor"))[:n]
            batches = self.data.test.images[chosen].split(BATCH)
            self._floors[n] = self.values(measure([self], batches, n, "floor", passing=True)[0])
        return self._floors[n], n

    def results(self, features: Tensor, generation: dict[str, Any]) -> list[Result]:
        """One record for each metric: value, floor, protocol, how the images were made."""
        n = len(features)
        floors, floor_n = self.floor(n)
        records = []
        for metric, value in self.values(features).items():
            protocol = self.protocol(metric, n)
            records.append(
                {
                    "metric": metric, "extractor": self.name, "value": value, "n": n, "floor": floors[metric],
                    "floor_n": floor_n, "fingerprint": protocol.fingerprint, "protocol": asdict(protocol),
                    "generation": generation,
                }
            )  # fmt: skip
        return records

    def _reference(self) -> Reference:
        known = {
            "extractor": self.name, "extractor_hash": self.extractor.hash, "resize": self.extractor.resize,
            "reference": self.data.train.hash, "kept": str(KID_REFERENCE),
        }  # fmt: skip
        key = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
        file = cache_folder() / "reference" / f"{self.name}-{key}.safetensors"
        try:
            with safe_open(file, "pt") as stored:
                if stored.metadata() == known:
                    return Reference(*(stored.get_tensor(name) for name in ("total", "outer", "count", "some")))
        except Exception:  # absent or damaged: it is computed again
            pass
        reference = self._measure(self.data.train)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, lambda path: save_file(vars(reference), path, metadata=known))
        except OSError as error:
            say(f"reference statistics are not cached ({error}); the next evaluation computes them again")
        return reference

    def _measure(self, split: Split) -> Reference:
        dimension = self.extractor.dimension
        total = torch.zeros(dimension, dtype=torch.float64)
        outer = torch.zeros(dimension, dimension, dtype=torch.float64)
        stride = max(len(split) // KID_REFERENCE, 1)
        some = []
        with Progress("reference", len(split)) as bar:
            for start in range(0, len(split), BATCH):
                features = self.features(split.images[start : start + BATCH])
                total += features.sum(dim=0)
                outer += features.T @ features
                some.append(features[(-start) % stride :: stride].float())
                bar.advance(len(features))
        return Reference(total, outer, torch.tensor(len(split)), torch.cat(some)[:KID_REFERENCE].contiguous())


class _Precomputed(nn.Module):
    """A feature network for torchmetrics that is handed features instead of images."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.num_features = dimension

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet(reference: Reference, features: Tensor) -> float:
    """Frechet distance of two Gaussians fitted to the features (Heusel et al. 2017, eq. 6), by torchmetrics in float64."""
    from torchmetrics.image.fid import FrechetInceptionDistance  # slow to import

    metric = FrechetInceptionDistance(feature=_Precomputed(features.shape[1]))
    # torchmetrics takes stored statistics nowhere, but these three sums are all that it keeps of the real images.
    metric.real_features_sum = reference.total.clone()
    metric.real_features_cov_sum = reference.outer.clone()
    metric.real_features_num_samples = reference.count.clone()
    metric.update(features.double(), real=False)
    return float(metric.compute())


def kernel(reference: Reference, features: Tensor) -> float:
    """Squared MMD with the cubic kernel, mean over subsets (Binkowski et al. 2018, section 4), by torchmetrics."""
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(KID_SUBSET, len(features), len(reference.some))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # it warns of the memory that its features take, which is meant here
        torch.manual_seed(0)
        metric = KernelInceptionDistance(feature=_Precomputed(features.shape[1]), subsets=KID_SUBSETS, subset_size=size)
        metric.update(reference.some.double(), real=True)
        metric.update(features.double(), real=False)
        mean, _ = metric.compute()
    return float(mean)


def unavailable(choice: Choice, error: BadInput) -> Result:
    """The record of a metric whose extractor cannot be had."""
    return {"metric": "FID", "extractor": choice.name, "value": None, "unavailable": str(error)}


def evaluators(choices: Iterable[Choice], data: ImageSet, device: torch.device) -> tuple[list[Evaluator], list[Result]]:
    """The evaluators that can be had, and a record for each one that cannot."""
    ready, missing = [], []
    for choice in choices:
        try:
            ready.append(Evaluator(choice, data, device))
        except BadInput as error:
            say(f"{choice.name} is unavailable: {error}")
            missing.append(unavailable(choice, error))
    return ready, missing


def measure(ready: list[Evaluator], batches: Iterable[Tensor], total: int, what: str, *, passing: bool = False) -> list[Tensor]:
    """The features [N, D] of the images for each evaluator; each image is drawn once and none is kept."""
    found: list[list[Tensor]] = [[] for _ in ready]
    with Progress(what, total, passing=passing) as bar:
        for images in batches:
            for features, evaluator in zip(found, ready, strict=True):
                features.append(evaluator.features(images))
            bar.advance(len(images))
    return [torch.cat(features) for features in found]


def evaluate_images(ready: list[Evaluator], batches: Iterable[Tensor], total: int, generation: dict[str, Any]) -> list[Result]:
    """All metrics of the images, from all evaluators."""
    if not ready:
        return []
    measured = zip(measure(ready, batches, total, "evaluating"), ready, strict=True)
    return [result for features, evaluator in measured for result in evaluator.results(features, generation)]


def describe_result(result: Result) -> str:
    """`FID 3.21 (fashion_cnn, N = 2,000 against fashion_mnist/train; floor 1.02; ddim, 50 steps, ema weights; 1a2b...)`."""
    if result["value"] is None:
        return f"{result['metric']} unavailable ({result['extractor']}: {result['unavailable']})"
    made = result["generation"]
    how = f"{made['sampler']}, {made['steps']} steps, {made['weights']} weights" if "sampler" in made else "made by: unknown"
    digits = 3 if result["metric"] == "FID" else 5
    floor = f"floor {result['floor']:.{digits}f}" + (
        f" at N = {result['floor_n']:,}" if result["floor_n"] != result["n"] else ""
    )
    return (
        f"{result['metric']} {result['value']:.{digits}f} ({result['extractor']}, N = {result['n']:,} against"
        f" {result['protocol']['reference']}; {floor}; {how}; protocol {result['fingerprint']})"
    )
