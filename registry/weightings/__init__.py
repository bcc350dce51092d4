"""Weightings: how much each level counts. A part is built with `(std)`, the data's, and called with `(log_snr [B], slope [B])`.

It gives a weight [B] for the squared error in the space that it declares: of `x0`, of `eps`, or of the `target` itself. The
lab converts by the target's own gain, so a weighting is written once and is right for every target. `slope` is the fall of the
log SNR over the whole path, d log_snr / dt with t = level / (T - 1), negative.

A paper's weight belongs either to the levels that its recipe samples, whatever they are: then the loss is multiplied by it as
it is. Or it belongs to the log SNR: the loss is meant to be the integral of weight times error over log SNR. Such a weighting
declares `per_log_snr = True`, and the lab divides it by the density of the levels, so that it means the same with any of them.

A part that is an `nn.Module` is learned with the network: it gives u [B], the log variance of the error, and the loss becomes
loss / exp(u) + u. It lies on the device of the images, and the log SNR, float64, may lie on the CPU (`registry/placing.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from registry.registry import Registry, stock
from registry.traits import Traits

Space = Literal["x0", "eps", "target"]


class Weighting(ABC):
    """Weight [B] from log SNR [B] and its slope [B]."""

    space: Space
    per_log_snr: bool = False

    def __init__(self, std: float) -> None:
        self.std = std

    @abstractmethod
    def __call__(self, log_snr: Tensor, slope: Tensor) -> Tensor:
        """The weight of each image's squared error, in `space`."""


def per_log_snr(weighting: object) -> bool:
    """Whether it is declared over log SNR; what says nothing, such as a learned one, is not."""
    return bool(getattr(weighting, "per_log_snr", False))


WEIGHTINGS: Registry[Callable[[float], Weighting | nn.Module], Traits] = Registry("weighting", runtime=("std",))

stock(__name__, __path__)
