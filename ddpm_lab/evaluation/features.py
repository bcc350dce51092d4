"""What is kept of features and of a classifier's answers: sums, and a few thousand features, whatever the number of images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ddpm_lab.evaluation.moments import Moments
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.seeding import protocol_generator

KEPT = 10_000  # features, at most, for what needs more than moments
MOST = 2**26  # numbers in the moments of all classes; where they would be more, classes are not told apart


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


class FeatureSums:
    """Statistics in the making. An image belongs to one of equal random `groups`, or to that of its label where `by_label`."""

    def __init__(
        self, dimension: int, total: int, groups: int, labels: Tensor | None = None, classes: int | None = None,
        answers: int | None = None, by_label: bool = False,
    ) -> None:  # fmt: skip
        """`labels` [total] of `classes`, where the images have them; `answers`: K of the logits, where they are to be kept."""
        self.groups = Moments.none(groups, dimension)
        self.labels, self.by_label = labels, by_label
        told_apart = labels is not None and not by_label and can_tell_apart(classes, dimension)
        self.by_class = Moments.none(classes or 0, dimension) if told_apart else None
        # Not every tenth: images that were asked for by class come in the order of their classes.
        self.place = torch.randperm(total, generator=protocol_generator("groups of features"))
        self.some: list[Tensor] = []
        self.not_finite = torch.zeros((), dtype=torch.long)
        self.answers = None if answers is None else Answers.none(groups, answers)

    def add(self, start: int, features: Tensor, logits: Tensor | None) -> None:
        """Features [B, D], float64, and logits [B, K] of the images from number `start` on."""
        self.not_finite += (~features.isfinite()).any(dim=1).sum()
        own = None if self.labels is None else self.labels[start : start + len(features)]
        place = self.place[start : start + len(features)]
        group = place % len(self.groups.count)
        _scatter(self.groups, features, own if self.by_label and own is not None else group)
        if self.by_class is not None and own is not None:
            _scatter(self.by_class, features, own)
        if self.answers is not None and logits is not None:
            _hear(self.answers, logits.double().cpu(), group, own)
        self.some.append(features[place < KEPT].float())

    def over_processes(self) -> None:
        """Add up what the processes have, the main one getting the whole; they were dealt the batches in turn."""
        for moments in filter(None, (self.groups, self.by_class)):
            for sums in (moments.total, moments.outer, moments.count):
                distributed.sum_of(sums)
        distributed.sum_of(self.not_finite)
        if self.answers is not None:
            for sums in vars(self.answers).values():
                distributed.sum_of(sums)
        self.some = distributed.collected(self.some)

    def measured(self) -> Measured:
        some = torch.cat(self.some) if self.some else self.groups.total[:0].float()
        return Measured(self.groups, some, self.answers, self.by_class, int(self.not_finite))


def can_tell_apart(classes: int | None, dimension: int) -> bool:
    """Whether the moments of each class are few enough to be held."""
    return classes is not None and classes * dimension**2 <= MOST


def _hear(answers: Answers, logits: Tensor, group: Tensor, asked: Tensor | None) -> None:
    log_p = logits.log_softmax(dim=1)
    answers.probability.index_add_(0, group, log_p.exp())
    answers.certainty.index_add_(0, group, (log_p.exp() * log_p).sum(dim=1))
    likeliest = logits.argmax(dim=1)
    answers.chosen.add_(likeliest.bincount(minlength=logits.shape[1]))
    if asked is not None:
        answers.agreed.add_((likeliest == asked).sum())


def _scatter(moments: Moments, features: Tensor, group: Tensor) -> None:
    for index in group.unique().tolist():
        moments.add(index, features[group == index])
