"""What `explain` prints: the gap, what explains it, all that was tried, and what was not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ddpm_lab.runtime.console import aligned, clock
from ddpm_lab.storage.measurement import plain
from ddpm_lab.studies.explain.bench import Found
from ddpm_lab.studies.explain.decide import Noise, Tried
from ddpm_lab.studies.explain.explain import Explanation
from registry.metrics import METRICS


def sentence(found: Explanation, one: Tried) -> str:
    """`raw instead of ema weights: 1.22 -> 3.40, explains all of it`."""
    return f"{one.text}: {_from_to(found, one)}, {_share(one)}"


def lines(found: Explanation) -> Iterator[str]:
    """For a person."""
    base, goal = found.base, found.goal
    yield f"{METRICS.main} {_value(found, found.before)} of {base.name}, {_value(found, found.wanted)} of {goal.name}"
    if found.within_noise:
        yield "the gap lies within the noise, so there is nothing to explain"
        return
    if found.named:
        yield from (sentence(found, one) for one in found.named)
        if len(found.named) > 1:
            yield "these cannot be told apart: each alone explains the gap, or would if the other side has it"
    elif found.tried:
        nearest = min(found.tried, key=lambda one: abs(one.share - 1))
        yield f"nothing that was tried explains the gap; nearest comes {sentence(found, nearest)}"
    else:
        yield "nothing that could explain the gap can be tried"
    if found.tried:
        yield ""
        moving = sorted((one for one in found.tried if not _still(found, one)), key=lambda one: abs(one.share - 1))
        if moving:
            head = ["changed", METRICS.main, "95 %", "of the gap", "of the other side", ""]
            yield from aligned([head, *(_cells(found, one) for one in moving)])
        if still := [one.text for one in found.tried if _still(found, one)]:
            yield f"moves it by no more than the noise over images: {'; '.join(still)}"
    if found.not_tried:
        yield ""
        yield from aligned([["not tried", "why"], *(list(one) for one in found.not_tried)])
    seeds = f"; two networks of one recipe may differ by {found.noise.seeds:.0%}" if found.noise.seeds else ""
    yield f"noise: 95 % intervals over images{seeds}; {clock(found.seconds)}"


def plain_explanation(found: Explanation) -> dict[str, Any]:
    """For a program."""
    sides = {
        name: {"name": side.name, "kind": side.kind, "value": value.value, "interval": value.interval, "way": side.way}
        for name, side, value in (("changed", found.base, found.before), ("other", found.goal, found.wanted))
    }
    tried = [
        {
            "change": [{"factor": c.factor, "from": c.old, "to": c.new, "known": c.known} for c in one.causes],
            "text": one.text, "value": one.value, "interval": one.interval, "share": one.share, "exact": one.exact,
            "explains": one.explains or one.exact, "named": one in found.named,
        }
        for one in found.tried
    ]  # fmt: skip
    told: dict[str, Any] = plain(
        sides | {
            "metric": METRICS.main, "within_noise": found.within_noise, "seed_noise": found.noise.seeds,
            "text": [sentence(found, one) for one in found.named], "tried": tried,
            "not_tried": [{"what": one.what, "why": one.why} for one in found.not_tried], "seconds": found.seconds,
        }
    )  # fmt: skip
    return told


def _cells(found: Explanation, one: Tried) -> list[str]:
    number, low_high = found.base.number, one.interval
    around = f"{number(low_high[0])} to {number(low_high[1])}" if low_high else ""
    known = "known" if all(cause.known for cause in one.causes) else "not said"
    verdict = "the same value" if one.exact else "explains it" if one.explains else ""
    return [one.text, _from_to(found, one), around, f"{one.share:.0%}", known, verdict]


def _still(found: Explanation, one: Tried) -> bool:
    """Whether a change changes nothing that can be told from noise."""
    images = Noise()
    return one not in found.named and images.hides(Found(one.value, one.interval), found.before)


def _from_to(found: Explanation, one: Tried) -> str:
    number = found.base.number
    return f"{number(found.before.value)} -> {number(one.value)}"


def _share(one: Tried) -> str:
    if one.exact:
        return "explains all of it, to the last digit"
    return "explains all of it" if one.explains else f"{one.share:.0%} of it"


def _value(found: Explanation, value: Found) -> str:
    number, around = found.base.number, value.interval
    return number(value.value) + (f" ({number(around[0])} to {number(around[1])})" if around else "")
