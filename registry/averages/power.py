"""EDM2's power-function average."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from registry.averages import AVERAGES

WIDEST = 12**-0.5  # of a flat profile, gamma = 0


@AVERAGES.register("power")
class Power:
    """An average whose memory grows with the run (Karras et al. 2024, EDM2, section 3.1): its profile is tau^gamma.

    `std` is the standard deviation of the profile as a share of the run so far; 0.05 is short, 0.15 long. Two of them, kept by
    `train.snapshots_every`, let `ddpm-lab ema` make any other afterwards.
    """

    def __init__(self, *, std: Annotated[float, Field(ge=0.001, le=0.28)] = 0.1) -> None:
        self.std, self.gamma = std, gamma_of(std)

    def __call__(self, images: int, batch: int) -> float:
        steps = images / batch
        return (1 - 1 / steps) ** (self.gamma + 1) if steps > 1 else 0.0  # beta_gamma(t), eq. 127


def gamma_of(std: float) -> float:
    """The exponent of the profile with that relative standard deviation.

    The inverse of `std_of`: the largest real root of (gamma + 2)^2 (gamma + 3) - (gamma + 1) / std^2.
    """
    inverse = std**-2
    roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
    return float(max(root.real for root in roots if abs(root.imag) < 1e-6 * abs(root)))


def std_of(gamma: float) -> float:
    """The standard deviation of the density (gamma + 1) tau^gamma on [0, 1]: that of a beta distribution (gamma + 1, 1)."""
    return math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)))
