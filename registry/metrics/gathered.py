"""What metrics are computed from: what was gathered of images in the features of an extractor, in pixels, or by the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from registry.metrics.moments import Moments

T = TypeVar("T")
Need = Literal["moments", "kept", "logits", "classes", "labels", "pixels", "network"]
KEPT = 10_000  # features, at most, for what needs more than moments


@dataclass(frozen=True)
class Statistics:
    """Of features [N, D]."""

    groups: Moments  # of disjoint groups that make up the whole: of a reference its classes, of evaluated images equal parts
    some: Tensor  # [<= KEPT, D] float32, a fixed random choice

    @cached_property
    def moments(self) -> Moments:
        """Those of all features."""
        return self.groups.without(())


@dataclass(frozen=True)
class Answers:
    """What the extractor's classifier said of the images of each group."""

    probability: Tensor  # [groups, K] float64, sums
    certainty: Tensor  # [groups] float64, sums of the negative entropy: p log p over all K
    chosen: Tensor  # [K] int64: how often each class was the likeliest
    agreed: Tensor  # int64: how often that was the class that was asked for

    @classmethod
    def none(cls, groups: int, classes: int) -> Answers:
        """Before the first image."""
        sums, count = torch.zeros(groups, classes, dtype=torch.float64), torch.zeros(classes, dtype=torch.int64)
        return cls(sums, sums[:, 0].clone(), count, count[0].clone())


@dataclass(frozen=True)
class Measured(Statistics):
    """Of images that are evaluated."""

    answers: Answers | None  # where the extractor is a classifier
    by_class: Moments | None  # [K], where the images were asked for by class
    not_finite: int = 0  # images whose features hold NaN or infinite numbers: nothing else here is worth anything then


@dataclass(frozen=True, eq=False)
class Seen:
    """What any metric is computed from."""

    _known: dict[Callable[..., Any], Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, compute: Callable[..., T]) -> T:
        """`compute(self)`, computed once for all metrics that share it."""
        if compute not in self._known:
            self._known[compute] = compute(self)
        found: T = self._known[compute]
        return found

    def has(self, need: Need) -> bool:
        """Whether it was gathered."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class InFeatures(Seen):
    """Images beside the reference, in the features of one extractor."""

    images: Measured
    reference: Statistics
    class_names: tuple[str, ...] | None = None  # of the data, where the groups of the reference are its classes
    own_classes: bool = False  # whether these are the classes that the extractor's classifier tells apart

    def has(self, need: Need) -> bool:
        """`moments` and `kept` always; `classes` are the answers of a classifier of the data's own classes."""
        return {
            "moments": True,
            "kept": True,
            "logits": self.images.answers is not None,
            "classes": self.images.answers is not None and self.class_names is not None and self.own_classes,
            "labels": self.images.by_class is not None and self.class_names is not None,
        }.get(need, False)


@dataclass(frozen=True, eq=False)
class InPixels(Seen):
    """Some of the images, of the shape of the data's; all tensors are uint8."""

    images: Tensor  # [N, C, H, W], a fixed random choice
    held_out: Tensor  # [M, C, H, W], a fixed random choice of the held-out images
    training: Callable[[], Iterable[Tensor]]  # all training images, in batches

    def has(self, need: Need) -> bool:
        return need == "pixels"


@dataclass(frozen=True, eq=False)
class OfNetwork(Seen):
    """How the network that makes the images predicts the noise in held-out ones.

    The same noise for every network; where a bucket of log SNR lies beyond the path's ends it is evaluated at the end.
    """

    errors: Tensor  # [N, buckets] float64: the squared error of eps, mean over the pixels, in the BUCKETS of buckets.py
    ends: tuple[float, float]  # the lowest and the highest log SNR of the path

    def has(self, need: Need) -> bool:
        return need == "network"
