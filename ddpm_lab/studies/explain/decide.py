"""What explains a gap: a change that alone moves one value to within the noise of the other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ddpm_lab.storage.measurement import Interval
from ddpm_lab.studies.explain.bench import Found
from ddpm_lab.studies.explain.factors import Cause, in_words

EXACT = 1e-4  # of a value: the same images, up to the order in which features are added
MOST = 0.5  # of the gap, at least, so that no small step across the edge of the noise explains it


@dataclass(frozen=True)
class Noise:
    """What moves values besides causes, all of it about 95 %.

    Intervals over images are symmetric on the cube root (registry/metrics/interval.py), so that is where noise is added up.
    """

    seeds: float = 0.0  # half the interval of ln(value / value) of two networks of one recipe; 0: it is the same network
    rounding: float = 0.0  # of a claimed value

    def between(self, one: Found, goal: Found) -> float:
        """How far apart the cube roots may be."""
        mine = _half(one)
        theirs = mine if goal.interval is None else _half(goal)  # of a claimed value nobody knows better
        seeds = self.seeds * _root(goal.value) / 3
        rounding = _root(goal.value + self.rounding) - _root(goal.value)
        return math.hypot(mine, theirs, seeds) + rounding

    def hides(self, one: Found, goal: Found) -> bool:
        """Whether it alone can make the difference."""
        return abs(_root(one.value) - _root(goal.value)) <= self.between(one, goal)


class Tried(NamedTuple):
    """A change, alone or in a pair, and what it makes of the value."""

    causes: tuple[Cause, ...]
    value: float
    interval: Interval | None
    share: float  # of the gap, in its logarithm; below 0 where it goes the other way
    explains: bool
    exact: bool  # it gives the other value to the last digit

    @property
    def text(self) -> str:
        """The change in words."""
        return in_words(self.causes)

    @property
    def known(self) -> bool:
        """Whether the other side is known to have all of it."""
        return all(cause.known for cause in self.causes)


def outcome(causes: tuple[Cause, ...], found: Found, base: Found, goal: Found, noise: Noise) -> Tried:
    """What a change does to the value."""
    share = math.log(found.value / base.value) / math.log(goal.value / base.value)
    exact = abs(found.value / goal.value - 1) < EXACT and goal.interval is not None
    return Tried(causes, found.value, found.interval, share, share > MOST and noise.hides(found, goal), exact)


def named(tried: list[Tried]) -> list[Tried]:
    """What explains the gap: what reproduces the other value, else all that cannot be told from it, the nearest first.

    What is known to differ comes before what is only thought to.
    """
    fitting = [one for one in tried if one.exact] or [one for one in tried if one.explains]
    fitting = [one for one in fitting if one.known] or fitting
    single = [one for one in fitting if len(one.causes) == 1]
    return sorted(single or fitting, key=lambda one: abs(one.share - 1))


def promising(tried: list[Tried], base: Found, noise_of_images: Noise, most: int = 4) -> list[Cause]:
    """The causes of which pairs are tried: all that are known, else those that move the value most, beyond the noise."""
    known = [one.causes[0] for one in tried if one.known]
    best: dict[str, Tried] = {}
    for one in sorted(tried, key=lambda one: abs(one.share), reverse=True):
        if not one.causes[0].known and not noise_of_images.hides(Found(one.value, one.interval), base):
            best.setdefault(one.causes[0].factor, one)
    return [*known, *(one.causes[0] for one in list(best.values())[:most])]


def _root(value: float) -> float:
    return float(max(value, 0.0) ** (1 / 3))


def _half(found: Found) -> float:
    return _root(found.interval[1]) - _root(found.value) if found.interval else 0.0
