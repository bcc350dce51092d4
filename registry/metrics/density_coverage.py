"""How densely images lie among the reference, and how much of it they cover."""

from __future__ import annotations

import torch
from torch import Tensor

from registry.metrics import METRICS, InFeatures, MetricTraits

TILE = 2048  # rows of a block of distances
NEIGHBOURS = 5  # Naeem et al. 2020, section 3


def of_neighbours(name: str, count: int, place: int) -> MetricTraits:
    """What a metric declares that looks for a point's `count` nearest among the kept features."""

    def protocol(n: int, reference: int) -> str:
        return f"{name} (k = {count}, {n} against {reference} at random)"

    return MetricTraits(needs=frozenset({"kept"}), higher=True, protocol=protocol, place=place)


@METRICS.register("density", of_neighbours("density", NEIGHBOURS, 50))
def density(seen: InFeatures) -> float | None:
    """As precision, but robust to outliers, with five neighbours (Naeem et al. 2020)."""
    return (both := seen.once(_both)) and both[0]


@METRICS.register("coverage", of_neighbours("coverage", NEIGHBOURS, 51))
def coverage(seen: InFeatures) -> float | None:
    """As recall, but robust to outliers, with five neighbours (Naeem et al. 2020)."""
    return (both := seen.once(_both)) and both[1]


def _both(seen: InFeatures) -> tuple[float, float] | None:
    images, reference = seen.images.some, seen.reference.some
    return density_coverage(images, reference) if min(len(images), len(reference)) > NEIGHBOURS else None


def density_coverage(images: Tensor, reference: Tensor, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """How densely the images [N, D] lie among the reference [M, D], and the share of the reference that has one near.

    Naeem et al. 2020, eq. 3 and 4: near is within the distance of a reference point to its k-th neighbour in the reference.
    """
    # Of a point's neighbours in its own set the first is itself.
    radii = torch.cat([_nearest(rows, reference, neighbours + 1)[:, -1] for rows in reference.split(TILE)])
    within, covered = 0, torch.zeros(len(reference), dtype=torch.bool, device=reference.device)
    for rows in images.split(TILE):
        near = torch.cdist(rows, reference) <= radii  # [rows, M]
        within += int(near.sum())
        covered |= near.any(dim=0)
    return within / (neighbours * len(images)), float(covered.float().mean())


def _nearest(rows: Tensor, others: Tensor, count: int) -> Tensor:
    return torch.cdist(rows, others).topk(min(count, len(others)), largest=False, sorted=True).values
