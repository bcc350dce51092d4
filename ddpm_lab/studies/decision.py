"""From the ratios of pairs to a verdict: better, worse, no difference that matters, or undecided."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ddpm_lab.studies.confidence import around, widest

Outcome = Literal["better", "worse", "no difference", "undecided"]
MOST = 10_000  # pairs; what needs more is not worth naming


@dataclass(frozen=True)
class Decision:
    """What the pairs say of B's metric as a multiple of A's."""

    outcome: Outcome
    pairs: int
    ratio: float | None = None  # geometric mean over the pairs
    interval: tuple[float, float] | None = None
    needed: int | None = None  # of an undecided one: about how many pairs would tell


@dataclass(frozen=True)
class Rule:
    """What is decided before the first pair."""

    margin: float  # a difference below it does not matter; 0: every one does
    alpha: float  # the probability of a wrong verdict, at most
    higher: bool  # is better

    def decide(self, logs: Sequence[float]) -> Decision:
        """The verdict after the first pairs that tell, or after all; `logs` are ln(B / A) of the pairs, in order.

        What comes after the pairs that told is left out, so that a second process that was ahead changes no verdict.
        """
        found = Decision("undecided", 0)
        for pairs in range(1, len(logs) + 1):
            found = self._look(logs[:pairs])
            if found.outcome != "undecided":
                return found
        return replace(found, needed=self._needed(logs))

    def _look(self, logs: Sequence[float]) -> Decision:
        mean, half = around(logs, self.alpha)
        ratio, interval = math.exp(mean), None
        if math.isfinite(half):
            interval = math.exp(mean - half), math.exp(mean + half)
            if self._differs(mean, half):
                return Decision("better" if (mean > 0) == self.higher else "worse", len(logs), ratio, interval)
            if self._agrees(mean, half):
                return Decision("no difference", len(logs), ratio, interval)
        return Decision("undecided", len(logs), ratio, interval)

    def _differs(self, mean: float, half: float) -> bool:
        return abs(mean) > half

    def _agrees(self, mean: float, half: float) -> bool:
        """Whether the whole interval lies between 1 / (1 + margin) and 1 + margin."""
        return abs(mean) + half < math.log1p(self.margin)

    def _needed(self, logs: Sequence[float]) -> int | None:
        """The first number of pairs that would tell, if mean and variance stayed what they are."""
        if len(logs) < 2:
            return None
        mean, sd = statistics.fmean(logs), statistics.stdev(logs)
        for pairs in range(len(logs) + 1, MOST + 1):
            limit = widest(pairs, self.alpha)
            half = limit * sd / math.sqrt(pairs) if math.isfinite(limit) else math.inf
            if self._differs(mean, half) or self._agrees(mean, half):
                return pairs
        return None


def sentence(found: Decision, metric: str, rule: Rule, minutes: float) -> str:
    """`B is better: 0.78 x the FID of A (95 %: 0.66 to 0.92) after 7 pairs, 56 min`."""
    value = ""
    if found.ratio is not None:
        sure = ", no interval yet"
        if found.interval:
            sure = f" ({100 * (1 - rule.alpha):g} %: {times(found.interval[0])} to {times(found.interval[1])})"
        value = f"{times(found.ratio)} x the {metric} of A{sure}"
    spent = f"after {counted(found.pairs)}, {f'{minutes:.0f} min' if minutes >= 1 else 'under a minute'}"
    if found.outcome in ("better", "worse"):
        return f"B is {found.outcome}: {value} {spent}"
    if found.outcome == "no difference":
        return f"no difference above {100 * rule.margin:g} %: {value} {spent}"
    more = f"about {found.needed:,} would tell" if found.needed else "nobody can say how many would tell"
    return f"undecided {spent}; {more}{': ' if value else ''}{value}"


def counted(number: int, what: str = "pair") -> str:
    """`1 pair`, `7 pairs`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def times(ratio: float) -> str:
    """A ratio with two decimals, or with as many as tell it from 1."""
    if ratio < 0.1:
        return f"{ratio:.2g}"
    distance = abs(math.log(ratio))
    return f"{ratio:.{2 if distance == 0 else min(6, max(2, math.ceil(-math.log10(2 * distance))))}f}"
