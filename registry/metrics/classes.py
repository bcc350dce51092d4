"""What is said of classes: the distance within each, their shares, and whether images are what was asked for."""

from __future__ import annotations

from registry.metrics import METRICS, InFeatures, MetricTraits, Value
from registry.metrics.fid import frechet


@METRICS.register(
    "class_FID", MetricTraits(needs=frozenset({"moments", "labels"}), protocol="class_FID (mean over the classes)", place=70)
)
def class_fid(seen: InFeatures) -> Value | None:
    """The mean over the classes of the FID within each; for runs with classes (no source)."""
    reference, images = seen.reference.groups, seen.images.by_class
    assert seen.class_names is not None
    assert images is not None
    enough = (reference.count > 1) & (images.count > 1)  # a class may be empty
    each = {
        name: frechet(reference[index], images[index]) for index, name in enumerate(seen.class_names) if enough[index]
    }  # fmt: skip
    return Value(sum(each.values()) / len(each), detail=each) if each else None


@METRICS.register(
    "class_shares", MetricTraits(needs=frozenset({"classes"}), protocol="class_shares (total variation)", place=71)
)
def class_shares(seen: InFeatures) -> Value:
    """The share of images that would have to be of another class, as the classifier sees them: total variation (no source)."""
    answers = seen.images.answers
    assert seen.class_names is not None
    assert answers is not None
    share = answers.chosen.double() / answers.chosen.sum()
    wanted = seen.reference.groups.count.double() / seen.reference.groups.count.sum()
    detail = dict(zip(seen.class_names, share.tolist(), strict=True))
    return Value(float((share - wanted).abs().sum()) / 2, detail=detail)


@METRICS.register("class_agreement", MetricTraits(needs=frozenset({"classes", "labels"}), higher=True, place=72))
def class_agreement(seen: InFeatures) -> float:
    """How often the classifier sees the class that was asked for; for runs with classes (no source)."""
    assert seen.images.answers is not None
    return float(seen.images.answers.agreed) / int(seen.images.answers.chosen.sum())
