"""Metrics from what is kept of features and answers. Libraries compute them where they can."""

from __future__ import annotations

import warnings
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ddpm_lab.evaluation.extrapolation import frechet_of_infinitely_many
from ddpm_lab.evaluation.features import Answers, Measured, Statistics
from ddpm_lab.evaluation.interval import frechet_interval
from ddpm_lab.evaluation.moments import Moments
from ddpm_lab.evaluation.prdc import NEIGHBOURS, density_coverage, precision_recall
from registry.metrics import USUAL

KID_SUBSETS = 100
KID_SUBSET = 1000
Interval = tuple[float, float] | None


class Value(NamedTuple):
    """A metric's value, its 95 % interval where one is known, and what it is made up of where that tells more."""

    value: float | None
    interval: Interval = None
    detail: dict[str, Any] | None = None


def all_values(
    reference: Statistics, images: Measured, class_names: tuple[str, ...] | None, extrapolate: bool,
    wanted: AbstractSet[str] = USUAL,
) -> dict[str, Value]:  # fmt: skip
    """All that can be said of the images: the FID, and of the others those that are wanted.

    `class_names` are the reference's; its groups are these classes. `images.answers` are of the same classes wherever the
    extractor has the same names, which is for the caller to see to.
    """
    found = {"FID": distance(reference, images)}
    if (extrapolate or "FID_infinity" in wanted) and (
        far := frechet_of_infinitely_many(reference.moments, images.groups)
    ) is not None:
        found["FID_infinity"] = Value(far)
    if "KID" in wanted:
        found["KID"] = Value(kernel(reference, images))
    ours, theirs = images.some, reference.some
    if min(len(ours), len(theirs)) > NEIGHBOURS:
        for pair, measured in ((("precision", "recall"), precision_recall), (("density", "coverage"), density_coverage)):
            if not wanted.isdisjoint(pair):
                both = zip(pair, map(Value, measured(ours, theirs)), strict=True)
                found |= {metric: value for metric, value in both if metric in wanted}
    if images.answers is not None and "IS" in wanted:
        found["IS"] = inception_score(images.answers, images.groups.count)
    if class_names is None or "class_FID" not in wanted:
        return found
    if images.by_class is not None and len(reference.groups.count) == len(class_names):
        enough = (reference.groups.count > 1) & (images.by_class.count > 1)  # a class may be empty
        each = {
            name: frechet(reference.groups[index], images.by_class[index])
            for index, name in enumerate(class_names)
            if enough[index]
        }
        if each:
            found["class_FID"] = Value(sum(each.values()) / len(each), detail=each)
    return found


def distance(reference: Statistics, images: Measured) -> Value:
    """The FID with its interval."""
    return Value(frechet(reference.moments, images.moments), frechet_interval(reference.moments, images.groups))


def answered(reference: Statistics, images: Measured, class_names: tuple[str, ...]) -> dict[str, Value]:
    """What a classifier of the reference's own classes says: their shares, and whether images are what was asked for."""
    assert images.answers is not None
    share = images.answers.chosen.double() / images.answers.chosen.sum()
    wanted = reference.groups.count.double() / reference.groups.count.sum()
    found = {
        # Total variation: the share of images that would have to be of another class.
        "class_shares": Value(
            float((share - wanted).abs().sum()) / 2, detail=dict(zip(class_names, share.tolist(), strict=True))
        )
    }
    if images.by_class is not None:
        found["class_agreement"] = Value(float(images.answers.agreed) / int(images.answers.chosen.sum()))
    return found


class _Precomputed(nn.Module):
    """A feature network for torchmetrics that is handed features instead of images."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.num_features = dimension

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet(reference: Moments, images: Moments) -> float:
    """Frechet distance of two Gaussians fitted to the features (Heusel et al. 2017, eq. 6), by torchmetrics in float64."""
    from torchmetrics.image.fid import FrechetInceptionDistance  # slow to import

    # It would add up what the processes have, which is added up already.
    metric = FrechetInceptionDistance(feature=_Precomputed(len(reference.total)), sync_on_compute=False)
    metric.update(torch.zeros_like(reference.outer), real=False)  # it has to have seen something
    # torchmetrics takes stored statistics nowhere, but these three sums are all that it keeps of either set.
    for side, moments in (("real", reference), ("fake", images)):
        setattr(metric, f"{side}_features_sum", moments.total.clone())
        setattr(metric, f"{side}_features_cov_sum", moments.outer.clone())
        setattr(metric, f"{side}_features_num_samples", moments.count.clone())
    return float(metric.compute())


def kernel(reference: Statistics, images: Statistics) -> float:
    """Squared MMD with the cubic kernel, mean over subsets (Binkowski et al. 2018, section 4), by torchmetrics."""
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(KID_SUBSET, len(images.some), len(reference.some))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # it warns of the memory that its features take, which is meant here
        torch.manual_seed(0)
        metric = KernelInceptionDistance(
            feature=_Precomputed(reference.some.shape[1]), subsets=KID_SUBSETS, subset_size=size, sync_on_compute=False
        )
        metric.update(reference.some.double(), real=True)
        metric.update(images.some.double(), real=False)
        mean, _ = metric.compute()
    return float(mean)


def inception_score(answers: Answers, count: Tensor) -> Value:
    """exp of the mean KL(p(y|x) || p(y)) (Salimans et al. 2016, section 4), its mean over the groups that have images.

    From sums, where the libraries hold all logits.
    """
    kept = count > 0
    count, certainty = count[kept].double(), answers.certainty[kept]
    marginal = answers.probability[kept] / count[:, None]
    score = (certainty / count - torch.special.xlogy(marginal, marginal).sum(dim=1)).exp()
    return Value(float(score.mean()), detail={"groups": len(score), "standard deviation": float(score.std(correction=0))})
