"""The Frechet distance of infinitely many images, from that of fewer and fewer."""

from __future__ import annotations

import numpy as np

from registry.metrics import METRICS, InFeatures, MetricTraits
from registry.metrics.interval import BLOCKS
from registry.metrics.interval import FEWEST as FEWEST_IMAGES
from registry.metrics.moments import Moments, frechet_from

FEWEST = 4  # blocks of a point; with fewer images the bias is no longer a straight line in 1 / N

TRAITS = MetricTraits(
    protocol=f"FID_infinity (a line over 1 / N, {BLOCKS} blocks)", usual=False, switch="extrapolate", place=20
)


@METRICS.register("FID_infinity", TRAITS)
def fid_infinity(seen: InFeatures) -> float | None:
    """The FID of infinitely many images, by a line over 1 / N (Chong & Forsyth 2020)."""
    return frechet_of_infinitely_many(seen.reference.moments, seen.images.groups)


def frechet_of_infinitely_many(reference: Moments, blocks: Moments) -> float | None:
    """Where the line through the distances of k blocks of images, over 1 / N, meets N = infinity (Chong & Forsyth 2020).

    The bias of a Frechet distance falls like 1 / N (their eq. 7). Each point is the mean over windows of k blocks in a ring,
    so that all images count alike in it. The reference keeps the bias of its own N. None where there are too few images.
    """
    if int(blocks.count.sum()) < FEWEST_IMAGES:
        return None
    distance, number = frechet_from(reference), len(blocks.count)
    inverse, means = [], []
    for k in range(min(FEWEST, number), number + 1):
        windows = [[(first + i) % number for i in range(k)] for first in range(number if k < number else 1)]
        parts = [blocks.of_sets(window) for window in windows]
        inverse.append(float(np.mean([1 / int(part.count) for part in parts])))
        means.append(float(np.mean([distance(part) for part in parts])))
    _, at_zero = np.polyfit(inverse, means, 1)
    return float(at_zero)
