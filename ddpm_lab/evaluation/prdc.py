"""Metrics of neighbourhoods: which of two sets of features lie close to the other. Features are held, images are not."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

TILE = 2048  # rows of a block of distances
MANIFOLD = 3  # Kynkaanniemi et al. 2019, section 3
NEIGHBOURS = 5  # Naeem et al. 2020, section 3


def precision_recall(images: Tensor, reference: Tensor, neighbours: int = MANIFOLD) -> tuple[float, float]:
    """Shares of the images [N, D] within the reference's manifold, and of the reference [M, D] within the images'.

    By torch-fidelity. Kynkaanniemi et al. 2019, eq. 2 and 3: within the distance of some member of the other set to its
    k-th neighbour there.
    """
    from torch_fidelity.metric_prc import calculate_precision_recall_part  # slow to import

    found: tuple[float, float] = calculate_precision_recall_part(images, reference, neighbours, TILE)
    return found


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


def nearest_distances(images: Tensor, reference: Iterable[Tensor]) -> Tensor:
    """From each of the images [N, ...] the Euclidean distance to the nearest in all batches of the reference: [N]."""
    found = torch.full((len(images),), torch.inf, device=images.device)
    for batch in reference:
        other = batch.flatten(1).to(images.device, torch.float32)
        nearest = [torch.cdist(rows.flatten(1).float(), other).amin(dim=1) for rows in images.split(TILE)]
        found = torch.minimum(found, torch.cat(nearest))
    return found


def _nearest(rows: Tensor, others: Tensor, count: int) -> Tensor:
    return torch.cdist(rows, others).topk(min(count, len(others)), largest=False, sorted=True).values
