"""Averages of any length after the run, from stored power-function averages (Karras et al. 2024, EDM2, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from registry.averages.power import gamma_of


class Profile(NamedTuple):
    """The weight that a power-function average gave to each moment: (gamma + 1) tau^gamma / t^(gamma + 1) on [0, t]."""

    time: float
    std: float


def overlap(one: Profile, other: Profile) -> float:
    """The integral of the product of two profiles.

    Both are powers of tau, and the product ends where the shorter one does:
    (g + 1)(h + 1) / (g + h + 1) * m^(g + h + 1) / (t^(g + 1) u^(h + 1)), with m the smaller of t and u.
    """
    g, h = gamma_of(one.std), gamma_of(other.std)
    # In logarithms, because m^(g + h + 1) alone leaves the range of numbers.
    exponent = (g + h + 1) * math.log(min(one.time, other.time)) - (g + 1) * math.log(one.time) - (h + 1) * math.log(other.time)
    return (g + 1) * (h + 1) / (g + h + 1) * math.exp(exponent)


def combination(stored: Sequence[Profile], wanted: Profile) -> tuple[list[float], float]:
    """The factors of the stored averages whose sum is nearest to the wanted one, and how far it is from it.

    They add up to 1, so that what they make is an average even where it is far off; a Lagrange multiplier sees to it. The
    distance is relative: the norm of the difference of the profiles over the norm of the wanted one.
    """
    gram = np.array([[overlap(a, b) for b in stored] for a in stored])
    right = np.array([overlap(a, wanted) for a in stored])
    # Scaled to ones on the diagonal, because an early profile is narrower and so larger than a late one.
    scale = np.sqrt(np.diag(gram))
    ones = (1 / scale) / np.linalg.norm(1 / scale)
    system = np.block([[gram / np.outer(scale, scale), ones[:, None]], [ones[None, :], np.zeros((1, 1))]])
    goal = np.append(right / scale, 1 / np.linalg.norm(1 / scale))
    factors = np.linalg.lstsq(system, goal, rcond=1e-13)[0][:-1] / scale
    whole = overlap(wanted, wanted)
    square = 1 - 2 * factors @ right / whole + factors @ gram @ factors / whole
    return factors.tolist(), math.sqrt(max(float(square), 0.0))
