"""Curves: the three ways in which signal and noise share an image. Each is the curve of (alpha, sigma) that a path walks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Curve(ABC):
    """A curve of points (alpha, sigma), each given by its angle atan2(sigma, alpha). All is elementwise, float64."""

    name: str

    @abstractmethod
    def point(self, angle: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at that angle."""

    @abstractmethod
    def length(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What is 1 for the points of the curve."""

    def start_std(self, sigma: Tensor) -> Tensor:
        """The standard deviation of the noise that sampling starts from at `sigma`: that of the noise in x_t."""
        return sigma

    def time(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The curve's own time, over which the probability flow has a bounded slope, at pure noise too."""
        return sigma

    @abstractmethod
    def slope(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """d x / d time = x0 d alpha / d time + eps d sigma / d time of images [B, C, H, W]; alpha and sigma are scalars."""


class VariancePreserving(Curve):
    """alpha^2 + sigma^2 = 1; its time is the angle, over which the slope is v (Salimans & Ho 2022, eq. 9).

    Sampling starts from N(0, I) as published (Ho et al. 2020, algorithm 2), though a trace of signal is left in training.
    """

    def point(self, angle: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cos(angle), torch.sin(angle)

    def length(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha**2 + sigma**2

    def start_std(self, sigma: Tensor) -> Tensor:
        return torch.ones_like(sigma)

    def time(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return torch.atan2(sigma, alpha)

    def slope(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha * eps - sigma * x0


class Flow(Curve):
    """alpha + sigma = 1 (Liu et al. 2023, eq. 1); a sampling schedule may start below sigma = 1."""

    def point(self, angle: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = torch.cos(angle), torch.sin(angle)
        return alpha / (alpha + sigma), sigma / (alpha + sigma)

    def length(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha + sigma

    def slope(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps - x0


class VarianceExploding(Curve):
    """alpha = 1; sampling starts at sigma as published (Karras et al. 2022, algorithm 1)."""

    def point(self, angle: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = torch.cos(angle), torch.sin(angle)
        return torch.ones_like(alpha), sigma / alpha

    def length(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha

    def slope(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps


CURVES = {
    curve.name: curve
    for curve in (VariancePreserving("variance_preserving"), Flow("flow"), VarianceExploding("variance_exploding"))
}
