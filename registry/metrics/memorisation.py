"""Memorisation: whether samples lie nearer to the training images than images that were never learnt from."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from registry.metrics import METRICS, InPixels, MetricTraits, Value
from registry.metrics.density_coverage import TILE

TRAITS = MetricTraits(
    needs=frozenset({"pixels"}), protocol="memorisation (Euclidean, nearest training image)", floor=0.5, place=80
)  # fmt: skip


@METRICS.register("memorisation", TRAITS)
def memorisation(seen: InPixels) -> Value:
    """How often a sample is nearer to a training image, in pixels, than a held-out image is (Meehan et al. 2020).

    That is the area under the curve of Mann and Whitney's test, on which Meehan et al. build theirs: one half where
    samples are as far away as new images, towards 1 where they copy. Blurred or plain samples are near to something
    too; only beside a good FID is it copying.
    """
    from scipy import stats  # slow to import

    # In units of one pixel's whole range.
    ours, theirs = (nearest_distances(images, seen.training()).cpu() / 255 for images in (seen.images, seen.held_out))
    value = float(stats.mannwhitneyu(theirs.numpy(), ours.numpy()).statistic) / (len(ours) * len(theirs))
    detail = {"median distance": float(ours.median()), "median distance of held-out images": float(theirs.median())}
    return Value(value, detail=detail)


def nearest_distances(images: Tensor, reference: Iterable[Tensor]) -> Tensor:
    """From each of the images [N, ...] the Euclidean distance to the nearest in all batches of the reference: [N]."""
    found = torch.full((len(images),), torch.inf, device=images.device)
    for batch in reference:
        other = batch.flatten(1).to(images.device, torch.float32)
        nearest = [torch.cdist(rows.flatten(1).float(), other).amin(dim=1) for rows in images.split(TILE)]
        found = torch.minimum(found, torch.cat(nearest))
    return found
