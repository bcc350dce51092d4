"""The profiles of power-function averages: tau^gamma on [0, 1], the run so far (Karras et al. 2024, EDM2, section 3.1)."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field

WIDEST = 12**-0.5  # of a flat profile, gamma = 0
RelativeStd = Annotated[float, Field(ge=0.001, le=0.28)]  # of a profile, as a share of the run so far


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
