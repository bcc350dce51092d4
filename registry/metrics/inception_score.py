"""The inception score."""

from __future__ import annotations

import torch
from torch import Tensor

from registry.metrics import METRICS, InFeatures, MetricTraits, Value
from registry.metrics.gathered import Answers
from registry.metrics.interval import BLOCKS


@METRICS.register(
    "IS", MetricTraits(needs=frozenset({"logits"}), higher=True, protocol=f"IS ({BLOCKS} random groups)", place=60)
)
def inception_score(seen: InFeatures) -> Value:
    """The inception score, in the extractor's own classes, over ten groups (Salimans et al. 2016)."""
    assert seen.images.answers is not None
    return score(seen.images.answers, seen.images.groups.count)


def score(answers: Answers, count: Tensor) -> Value:
    """exp of the mean KL(p(y|x) || p(y)) (Salimans et al. 2016, section 4), its mean over the groups that have images.

    From sums, where the libraries hold all logits.
    """
    kept = count > 0
    count, certainty = count[kept].double(), answers.certainty[kept]
    marginal = answers.probability[kept] / count[:, None]
    found = (certainty / count - torch.special.xlogy(marginal, marginal).sum(dim=1)).exp()
    return Value(float(found.mean()), detail={"groups": len(found), "standard deviation": float(found.std(correction=0))})
