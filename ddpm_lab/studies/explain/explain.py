"""Why is X not Y? One of them is changed towards the other: one thing at a time, then two, then all that are known."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ddpm_lab.inference.measuring import data_of_run
from ddpm_lab.reports.seed_groups import noise_beside
from ddpm_lab.runtime.console import clock, say
from ddpm_lab.studies.explain.bench import Bench, Found
from ddpm_lab.studies.explain.causes import NotTried, causes
from ddpm_lab.studies.explain.decide import Noise, Tried, named, outcome, promising
from ddpm_lab.studies.explain.factors import FACTORS, Cause, changed, in_words
from ddpm_lab.studies.explain.subject import EVALUATED, Subject
from registry.choice import Choice
from registry.datasets import ImageSet
from registry.errors import BadInput

SEEDS = 0.07  # standard deviation of ln FID between seeds of training, measured on the lab's recipes (docs/decisions.md)
NORMAL = 1.96
MOST_SETS = 10  # of several changes at once, those first whose parts add up best

Choose = Callable[[str], Choice]


@dataclass(frozen=True)
class Explanation:
    """What was found, and what it rests on."""

    base: Subject  # what was changed
    goal: Subject
    before: Found
    wanted: Found
    noise: Noise
    tried: tuple[Tried, ...] = ()
    not_tried: tuple[NotTried, ...] = ()
    seconds: float = 0.0

    @property
    def within_noise(self) -> bool:
        """Whether there is nothing to explain."""
        return self.noise.hides(self.before, self.wanted)

    @property
    def named(self) -> list[Tried]:
        """What explains the gap."""
        return [] if self.within_noise else named(list(self.tried))


class Search:
    """The changes of one question, computed as far as the time allows."""

    def __init__(
        self, x: Subject, y: Subject, dataset: Callable[[], ImageSet], choose: Choose, features: str, device: torch.device,
        n: int | None = None, minutes: float | None = None,
    ) -> None:  # fmt: skip
        """`dataset` gives what an .npz is measured against, `choose` an extractor, `features` that of an .npz without record.

        Raises:
            BadInput: `n` cannot be had, or the base was measured against other data.
        """
        self.begun, self.minutes = time.monotonic(), minutes
        x, y = (one.at(n) for one in (x, y)) if n else (x, y)
        changes_y = x.kind == "a claimed value" or (x.kind == "an .npz" and y.kind == "a run")
        base, goal = (y, x) if changes_y else (x, y)
        data = data_of_run(base.run) if base.run else dataset()
        default = {"features": goal.way.get("features", features)}
        self.base = _placed(replace(base, way={**EVALUATED, **default, **base.way}), data)
        if goal.images is not None:
            goal = replace(goal, way={"features": self.base.way["features"], **goal.way})
        self.goal = goal if goal.record is None else _placed(goal, data)
        self.bench = Bench(self.base, data, choose, device)
        self.noise = Noise(_seeds(self.base, self.goal), goal.rounding)
        self.tried, self.left = list[Tried](), list[NotTried]()

    def execute(self) -> Explanation:
        """Change what can be changed.

        Raises:
            BadInput: the base cannot be measured.
        """
        wanted = self._wanted()
        before = _recorded(self.base) or self.bench.value(self.base.way)
        if self._result(before, wanted).within_noise:
            return self._result(before, wanted)
        alone, self.left = causes(self.base, self.goal, self.bench)
        if not alone:
            return self._result(before, wanted)
        self._announce(alone)
        before = self._again(before)
        if self._result(before, wanted).within_noise:
            return self._result(before, wanted)
        last = sum(self.bench.seconds(changed(self.base.way, [cause])) for cause in alone)
        say(f"about {clock(last)} for these")
        self._compute([(cause,) for cause in alone], before, wanted)
        self._combine(before, wanted)
        return self._result(before, wanted)

    def _wanted(self) -> Found:
        goal, known = self.goal, _recorded(self.goal)
        if known or goal.value is not None:
            return known or Found(goal.value or math.nan, None)
        bench = Bench(goal, self.bench.data, self.bench.choose, self.bench.device)
        return bench.value({**EVALUATED, **goal.way})

    def _announce(self, alone: Sequence[Cause]) -> None:
        ways = [changed(self.base.way, [cause]) for cause in alone]
        sizes = sorted({int(str(way["n"])) for way in ways})
        many = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
        anew = sum(FACTORS[cause.factor].sampled for cause in alone)
        say(
            f"{self.base.name} is changed: {len(alone) + 1} evaluations of {many} images, {anew} of them of images sampled"
            f" anew; pairs, {MOST_SETS} at most, follow where none of them explains the gap"
        )

    def _again(self, recorded: Found) -> Found:
        """The value of the base by today's code; the one that changes are compared with."""
        found = self.bench.value(self.base.way)
        if abs(found.value / recorded.value - 1) > 1e-3:
            number = self.base.number
            say(
                f"warning: {self.base.name} is {number(found.value)} when it is measured again, and {number(recorded.value)} in"
                " its record: another machine or other code measured it"
            )
        return found

    def _compute(self, sets: Iterable[tuple[Cause, ...]], before: Found, wanted: Found) -> list[Tried]:
        done = []
        for several in sets:
            way, text = changed(self.base.way, several), in_words(several)
            spent = time.monotonic() - self.begun
            if self.minutes is not None and spent + self.bench.seconds(way) > 60 * self.minutes:
                self.left.append(NotTried(text, "it would have lasted beyond --minutes"))
                continue
            try:
                self.bench.require(way)
                found = self.bench.value(way)
            except BadInput as error:
                self.left.append(NotTried(text, str(error)))
                continue
            done.append(outcome(several, found, before, wanted, self.noise))
            say(f"{text}: {self.base.number(before.value)} -> {self.base.number(found.value)}")
        self.tried += done
        return done

    def _combine(self, before: Found, wanted: Found) -> None:
        """Pairs, where nothing alone explains the gap; and all that is known to differ, where no less of it does.

        What explains it within the noise is tried together with what is known to differ too: the pair may do so to the digit.
        """
        share = {one.causes[0]: one.share for one in self.tried}
        known, fitting = [cause for cause in share if cause.known], named(self.tried)
        if fitting:
            exact = any(one.exact for one in fitting) or (self.goal.record is None and self.goal.images is None)
            pairs = [] if exact else [(one, two.causes[0]) for one in known for two in fitting]
        else:
            chosen = promising(self.tried, before, replace(self.noise, seeds=0.0, rounding=0.0))
            pairs = list(itertools.combinations(chosen, 2))
        self._compute(self._likely([pair for pair in pairs if pair[0].factor != pair[1].factor], share), before, wanted)
        levels: dict[str, list[Cause]] = {}
        for cause in known:
            levels.setdefault(cause.factor, []).append(cause)
        if len(levels) > 2 and not any(one.known for one in named(self.tried)):
            self._compute(self._likely(itertools.product(*levels.values()), share), before, wanted)

    def _likely(self, sets: Iterable[tuple[Cause, ...]], share: Mapping[Cause, float]) -> list[tuple[Cause, ...]]:
        """Those whose parts add up to the gap best."""
        found = sorted(sets, key=lambda several: abs(sum(share[cause] for cause in several) - 1))
        if len(found) > MOST_SETS:
            what = f"{len(found) - MOST_SETS} more sets of {len(found[0])} changes"
            self.left.append(NotTried(what, f"no more than {MOST_SETS} are tried"))
        return found[:MOST_SETS]

    def _result(self, before: Found, wanted: Found) -> Explanation:
        spent = time.monotonic() - self.begun
        return Explanation(self.base, self.goal, before, wanted, self.noise, tuple(self.tried), tuple(self.left), spent)


def _recorded(subject: Subject) -> Found | None:
    return None if subject.value is None or subject.record is None else Found(subject.value, subject.interval)


def _placed(subject: Subject, data: ImageSet) -> Subject:
    """With the half of the data set that its record was measured against.

    Raises:
        BadInput: it was another data set.
    """
    if subject.record is None:
        return subject
    protocol = subject.record.protocol
    for level, half in (("train", data.train), ("test", data.test)):
        if protocol.reference_hash == half.hash:
            return replace(subject, way={**subject.way, "reference": level})
    raise BadInput(
        f"{subject.name}: measured against {protocol.reference}, which is not {data.name}; evaluate it against that first, or"
        " name the data set by --dataset"
    )


def _seeds(base: Subject, goal: Subject) -> float:
    """Half the interval of ln(value / value) of two networks that differ in the seed alone; 0 of one network."""
    run = base.run
    if run and goal.run and run.folder.path.resolve() == goal.run.folder.path.resolve():
        return 0.0
    if run and base.record:
        noise = noise_beside([run.folder.path.resolve()], base.record)
        if noise.freedom:
            return noise.half(2.0)
    return NORMAL * SEEDS * math.sqrt(2)
