"""Sums of features from which means, covariances and Frechet distances follow, however many images there were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Of features [N, D], or of several sets of them at once: sums, sums of outer products, N."""

    total: Tensor  # [..., D] float64
    outer: Tensor  # [..., D, D] float64
    count: Tensor  # [...] int64

    @classmethod
    def none(cls, sets: int, dimension: int) -> Moments:
        """Of so many sets, all empty."""
        total = torch.zeros(sets, dimension, dtype=torch.float64)
        return cls(total, torch.zeros(sets, dimension, dimension, dtype=torch.float64), torch.zeros(sets, dtype=torch.int64))

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Of all features [..., N, D]."""
        features = features.double()
        return cls(features.sum(-2), features.mT @ features, torch.full(features.shape[:-2], features.shape[-2]))

    def add(self, index: int, features: Tensor) -> None:
        """Count features [n, D], float64, into the set of that number."""
        self.total[index] += features.sum(dim=0)
        self.outer[index] += features.T @ features
        self.count[index] += len(features)

    def __getitem__(self, index: int) -> Moments:
        return Moments(self.total[index], self.outer[index], self.count[index])

    def of_sets(self, chosen: Sequence[int]) -> Moments:
        """Those of the chosen sets, together."""
        kept = list(chosen)
        return Moments(self.total[kept].sum(0), self.outer[kept].sum(0), self.count[kept].sum(0))

    def without(self, left_out: Sequence[int]) -> Moments:
        """Those of all sets but these, together."""
        return self.of_sets([index for index in range(len(self.count)) if index not in left_out])

    def gaussian(self) -> tuple[Tensor, Tensor]:
        """Mean [D] and covariance [D, D]."""
        mean = self.total / self.count
        return mean, (self.outer - self.count * torch.outer(mean, mean)) / (self.count - 1)


def frechet_from(reference: Moments) -> Callable[[Moments], float]:
    """Distances from one reference (Heusel et al. 2017, eq. 6): by its root, which stays, where dozens of them are wanted."""
    mean, covariance = reference.gaussian()
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T

    def distance(images: Moments) -> float:
        ours, spread = images.gaussian()
        shared = torch.linalg.eigvalsh(root @ spread @ root).clamp(min=0).sqrt().sum()
        return float((ours - mean).square().sum() + covariance.trace() + spread.trace() - 2 * shared)

    return distance
