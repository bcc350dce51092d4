"""How far the images would have to be moved to become real ones."""

from __future__ import annotations

import torch
from torch import Tensor

from registry.metrics import METRICS, InFeatures, MetricTraits

MOST = 1000  # images, each of which gets one of the reference


def _protocol(n: int, reference: int) -> str:
    return f"Wasserstein distance (W1, exact, {min(n, reference, MOST)} of each at random)"


@METRICS.register(
    "wasserstein", MetricTraits(needs=frozenset({"kept"}), digits=4, protocol=_protocol, usual=False, during=True, place=35)
)
def wasserstein(seen: InFeatures) -> float:
    """The 1-Wasserstein distance of features, exact for as many images as real ones (Peyre & Cuturi 2019, section 2.4).

    It sees what a Frechet distance of Gaussians does not, such as where the density has holes; in more than a few dimensions it
    needs more images than there are. The 2-Wasserstein distance would mostly tell by how few points two modes differ.
    """
    size = min(len(seen.images.some), len(seen.reference.some), MOST)
    rng = torch.Generator().manual_seed(0)
    ours, theirs = (some[torch.randperm(len(some), generator=rng)[:size]] for some in (seen.images.some, seen.reference.some))
    return distance(ours, theirs)


def distance(ours: Tensor, theirs: Tensor) -> float:
    """The least mean distance between features [N, D] and [N, D], each paired with one of the others, by scipy."""
    from scipy.optimize import linear_sum_assignment  # slow to import

    cost = torch.cdist(ours.double(), theirs.double())
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    return float(cost[torch.from_numpy(rows), torch.from_numpy(columns)].mean())
