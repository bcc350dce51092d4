"""Sums of features and of a classifier's answers, and a few thousand features, whatever the number of images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.seeding import protocol_generator
from registry.metrics.gathered import KEPT, Answers, Measured
from registry.metrics.moments import Moments

MOST = 2**26  # numbers in the moments of all classes; where they would be more, classes are not told apart
Look = Callable[[Tensor], tuple[Tensor, "Tensor | None"]]  # images -> features [B, D], float64, and logits [B, K]


class FeatureSums:
    """Statistics in the making. An image belongs to one of equal random `groups`, or to that of its label where `by_label`."""

    def __init__(
        self, look: Look, dimension: int, total: int, groups: int, labels: Tensor | None = None, classes: int | None = None,
        answers: int | None = None, by_label: bool = False,
    ) -> None:  # fmt: skip
        """`look`: what the extractor gives of images; `labels` [total] of `classes`, where they have them; `answers`: K of
        the logits, where they are to be kept.
        """
        self.look, self.groups = look, Moments.none(groups, dimension)
        self.labels, self.by_label = labels, by_label
        told_apart = labels is not None and not by_label and can_tell_apart(classes, dimension)
        self.by_class = Moments.none(classes or 0, dimension) if told_apart else None
        # Not every tenth: images that were asked for by class come in the order of their classes.
        self.place = torch.randperm(total, generator=protocol_generator("groups of features"))
        self.some: list[Tensor] = []
        self.not_finite = torch.zeros((), dtype=torch.long)
        self.answers = None if answers is None else Answers.none(groups, answers)

    def add(self, start: int, images: Tensor) -> None:
        """uint8 images [B, C, H, W], the first of number `start`."""
        features, logits = self.look(images)
        self.not_finite += (~features.isfinite()).any(dim=1).sum()
        own = None if self.labels is None else self.labels[start : start + len(features)]
        place = self.place[start : start + len(features)]
        group = place % len(self.groups.count)
        _scatter(self.groups, features, own if self.by_label and own is not None else group)
        if self.by_class is not None and own is not None:
            _scatter(self.by_class, features, own)
        if self.answers is not None and logits is not None:
            _hear(self.answers, logits.cpu().double(), group, own)
        self.some.append(features[place < KEPT].float())

    def merge(self) -> None:
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
