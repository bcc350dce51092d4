"""How much of the images lies within the manifold of the reference, and the other way round."""

from __future__ import annotations

from torch import Tensor

from registry.metrics import METRICS, InFeatures
from registry.metrics.density_coverage import NEIGHBOURS, TILE, of_neighbours

MANIFOLD = 3  # Kynkaanniemi et al. 2019, section 3


@METRICS.register("precision", of_neighbours("precision", MANIFOLD, 40))
def precision(seen: InFeatures) -> float | None:
    """The share of images within the reference's 3-neighbour manifold (Kynkaanniemi et al. 2019)."""
    return (both := seen.once(_both)) and both[0]


@METRICS.register("recall", of_neighbours("recall", MANIFOLD, 41))
def recall(seen: InFeatures) -> float | None:
    """The share of the reference within the images' 3-neighbour manifold (Kynkaanniemi et al. 2019)."""
    return (both := seen.once(_both)) and both[1]


def _both(seen: InFeatures) -> tuple[float, float] | None:
    images, reference = seen.images.some, seen.reference.some
    return precision_recall(images, reference) if min(len(images), len(reference)) > NEIGHBOURS else None


def precision_recall(images: Tensor, reference: Tensor, neighbours: int = MANIFOLD) -> tuple[float, float]:
    """Shares of the images [N, D] within the reference's manifold, and of the reference [M, D] within the images'.

    By torch-fidelity. Kynkaanniemi et al. 2019, eq. 2 and 3: within the distance of some member of the other set to its
    k-th neighbour there.
    """
    from torch_fidelity.metric_prc import calculate_precision_recall_part  # slow to import

    found: tuple[float, float] = calculate_precision_recall_part(images, reference, neighbours, TILE)
    return found
