"""The kernel distance between the features of images and of the reference."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from registry.metrics import METRICS, InFeatures, MetricTraits
from registry.metrics.handed_features import HandedFeatures

SUBSETS = 100
SUBSET = 1000


def _protocol(n: int, reference: int) -> str:
    return f"KID ({SUBSETS} subsets of {min(SUBSET, n)} against {reference} at random)"


@METRICS.register("KID", MetricTraits(needs=frozenset({"kept"}), digits=5, protocol=_protocol, during=True, place=30))
def kid(seen: InFeatures) -> float:
    """Squared MMD with a cubic kernel, the mean over subsets (Binkowski et al. 2018)."""
    return kernel(seen.reference.some, seen.images.some)


def kernel(reference: Tensor, images: Tensor) -> float:
    """Squared MMD of features [M, D] and [N, D], mean over subsets (Binkowski et al. 2018, section 4), by torchmetrics."""
    from torchmetrics.image.kid import KernelInceptionDistance  # slow to import

    size = min(SUBSET, len(images), len(reference))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # it warns of the memory that its features take, which is meant here
        torch.manual_seed(0)
        network = HandedFeatures(reference.shape[1])
        metric = KernelInceptionDistance(feature=network, subsets=SUBSETS, subset_size=size, sync_on_compute=False)
        metric.update(reference.double(), real=True)
        metric.update(images.double(), real=False)
        mean, _ = metric.compute()
    return float(mean)
