"""Targets: what the network regresses. A part is built with `(std)`, the standard deviation of the data, and gives a `Target`.

alpha and sigma come shaped to broadcast against the images, [B, 1, 1, 1].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from registry.registry import Registry, stock
from registry.traits import Traits


class Target(ABC):
    """A linear function of (x0, eps) that the network learns, and its inverse given x_t = alpha x_0 + sigma eps."""

    def __init__(self, std: float) -> None:
        self.std = std

    @abstractmethod
    def of(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What the network should predict, [B, C, H, W]."""

    @abstractmethod
    def split(self, prediction: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(x0, eps) from a prediction: the inverse of `of`."""

    def condition(self, alpha: Tensor, sigma: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """(scale of the network's input, its noise label [B]); `label` is 1000 level / T."""
        return torch.ones_like(alpha), label

    def gain(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(|d x0 / d prediction|, |d eps / d prediction|): how an error of the network shows in x_0 and in eps."""
        one, zero = torch.ones_like(alpha), torch.zeros_like(alpha)
        x0, eps = self.split(one, zero, alpha, sigma)  # split is affine, and 0 where prediction and x_t are
        return x0.abs(), eps.abs()


TARGETS: Registry[Callable[[float], Target], Traits] = Registry("target", runtime=("std",))

stock(__name__, __path__)
