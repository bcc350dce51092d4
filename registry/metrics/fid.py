"""The Frechet distance between the features of images and of the reference."""

from __future__ import annotations

import torch

from registry.metrics import METRICS, InFeatures, MetricTraits, Value
from registry.metrics.handed_features import HandedFeatures
from registry.metrics.interval import frechet_interval
from registry.metrics.moments import Moments


@METRICS.register("FID", MetricTraits(main=True, during=True, place=10))
def fid(seen: InFeatures) -> Value:
    """Frechet distance to the training images' features, with its interval (Heusel et al. 2017)."""
    images, reference = seen.images, seen.reference.moments
    return Value(frechet(reference, images.moments), frechet_interval(reference, images.groups))


def frechet(reference: Moments, images: Moments) -> float:
    """Frechet distance of two Gaussians fitted to the features (Heusel et al. 2017, eq. 6), by torchmetrics in float64."""
    from torchmetrics.image.fid import FrechetInceptionDistance  # slow to import

    # It would add up what the processes have, which is added up already.
    metric = FrechetInceptionDistance(feature=HandedFeatures(len(reference.total)), sync_on_compute=False)
    metric.update(torch.zeros_like(images.outer[:0]), real=False)  # no features, from which it takes their dtype
    state = {}
    for side, moments in (("real", reference), ("fake", images)):
        state[f"{side}_features_sum"] = moments.total
        state[f"{side}_features_cov_sum"] = moments.outer
        state[f"{side}_features_num_samples"] = moments.count
    metric.merge_state(state)
    return float(metric.compute())
