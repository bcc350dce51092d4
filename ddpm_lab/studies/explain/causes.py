"""Which changes of one subject could make the other's value of its own, and what cannot be tried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ddpm_lab.evaluation.extractors import suits
from ddpm_lab.inference.trained_run import Run, part_in_words
from ddpm_lab.storage.measurement import Word
from ddpm_lab.studies.explain import pixels
from ddpm_lab.studies.explain.bench import Bench
from ddpm_lab.studies.explain.factors import FACTORS, FEWEST, REFERENCES, Cause, changed
from ddpm_lab.studies.explain.subject import Subject, training_differences
from registry.choice import Choice
from registry.errors import BadInput
from registry.features import FEATURES
from registry.grids import GRIDS
from registry.guidance import GUIDANCE
from registry.objectives import OBJECTIVES
from registry.samplers import SAMPLERS

USUAL_N = (500, 1_000, 2_000, 5_000, 10_000, 50_000)
TIMES = (1 / 8, 5)  # of N: others are too noisy, or take too long


class NotTried(NamedTuple):
    """What may differ and was not computed, and why."""

    what: str
    why: str


def causes(base: Subject, goal: Subject, bench: Bench) -> tuple[list[Cause], list[NotTried]]:
    """What can be changed in `base`: to the level of `goal` where that is known, else to the usual other ones."""
    found, left = list[Cause](), list(_beyond(base, goal))
    exists = []
    for name, factor in FACTORS.items():
        old = base.way.get(name)
        if name in goal.way and goal.way[name] == old:
            continue
        if factor.sampled and base.run is None:
            exists.append(name)
            continue
        known = name in goal.way
        for new in [goal.way[name]] if known else _others(name, base, goal, bench):
            if isinstance(new, NotTried):
                left.append(new)
                continue
            cause = Cause(name, old, new, known or str(new).endswith(pixels.ALONE))
            try:
                bench.require(changed(base.way, [cause]))
                found.append(cause)
            except BadInput as error:
                left.append(NotTried(str(cause), str(error)))
    if exists:
        left.append(NotTried(", ".join(exists), f"the images of {base.name} exist already; only a run can be sampled anew"))
    return sorted(found, key=lambda cause: (not cause.known, FACTORS[cause.factor].sampled)), left


def _beyond(base: Subject, goal: Subject) -> Iterator[NotTried]:
    """What no way of sampling or evaluating can change."""
    if base.run and goal.run:
        told = [f"{one.key}: {one.old} -> {one.new}" for one in training_differences(base.run, goal.run)]
        if told:
            yield NotTried(f"training ({', '.join(told)})", "needs training; `ddpm-lab verdict` tells what it does")
    elif goal.record is None or "sampler" not in goal.way:
        yield NotTried(f"the network behind {goal.name}", "nothing is known of it and its training")
    yield NotTried("port and mode of an extractor", "there is one port of each, in evaluation mode")
    if base.record and goal.record:
        ours, theirs = base.record, goal.record
        if ours.streams is not None and theirs.streams is not None and ours.streams != theirs.streams:
            yield NotTried(
                f"random streams of version {ours.streams} and {theirs.streams}", "images are sampled by today's version only"
            )
        if ours.extractor == theirs.extractor and ours.protocol.extractor_hash != theirs.protocol.extractor_hash:
            yield NotTried(f"the weights of {ours.extractor}", "they are not those of today's in one of the two records")


def _others(name: str, base: Subject, goal: Subject, bench: Bench) -> Iterator[Word | NotTried]:
    """The usual levels that `goal` may have, where it is not known."""
    old, run = base.way.get(name), base.run
    if name in ("resize", "colour"):
        yield from (_resizes if name == "resize" else _colours)(base, goal, bench)
    elif name == "n":
        low, high = (times * float(str(old)) for times in TIMES)
        yield from (n for n in USUAL_N if n != old and max(low, FEWEST) <= n <= high)
    elif name == "reference":
        yield from (one for one in REFERENCES if one != old)
    elif name == "quantisation":
        yield from (one for one in pixels.QUANTISATIONS if one != old)
    elif name == "features":
        for part in FEATURES:
            if part.name != old:
                suitable = suits(Choice(part.name, {}), bench.data)
                why = f"not made for this data; add features={part.name} to a claimed value to try it"
                yield part.name if suitable else NotTried(f"features of {part.name}", why)
    elif run is not None:
        yield from _resampled(name, base, run)


def _resampled(name: str, base: Subject, run: Run) -> Iterator[Word | NotTried]:
    old = base.way[name]
    if name == "weights":
        yield from (one for one in run.folder.known_weights if one != old)
    elif name == "steps":
        steps = int(str(old))
        yield from (one for one in (steps // 4, steps // 2, 2 * steps) if 0 < one <= run.experiment.timesteps)
    elif name == "seed":
        yield int(str(old)) + 1
    elif name == "clip":
        yield not old
    elif name == "precision":
        yield "bf16" if old == "fp32" else "fp32"
    elif name == "guidance":
        own = run.experiment.sampling.guidance
        strength = GUIDANCE.part(own.name).traits.strength
        if strength is None or not run.experiment.classes:
            yield NotTried(name, "the run knows no classes" if strength else f"'{own.name}' has no strength")
        else:
            yield from _distinct([part_in_words({**own.flat(), strength: scale}) for scale in (1.0, 2.0)], old)
    else:
        network = OBJECTIVES.part(run.experiment.objective.name).traits.network
        for part in SAMPLERS if name == "sampler" else GRIDS:
            if name == "sampler" and not SAMPLERS.part(part.name).traits.takes & network:
                continue
            try:
                options = (SAMPLERS if name == "sampler" else GRIDS).check(part.name, {})
            except BadInput:  # it needs an option, and nobody can guess which
                continue
            yield from _distinct([part_in_words({"name": part.name, **options})], old)


def _resizes(base: Subject, goal: Subject, bench: Bench) -> Iterator[Word | NotTried]:
    mine, theirs = base.shape, goal.shape
    assert mine is not None
    if theirs is not None:
        if mine[1:] != theirs[1:]:
            yield from (pixels.to_size(rule, *theirs[1:]) for rule in pixels.RESIZES)
        return
    features = str(base.way["features"])
    size = bench.extractor_size(features)
    if size is None or size == mine[1:]:
        why = "does not say which size it takes" if size is None else f"takes images of {mine[1]} x {mine[2]} as they are"
        yield NotTried("resize", f"{features} {why}")
    else:
        yield from pixels.RESIZES


def _colours(base: Subject, goal: Subject, bench: Bench) -> Iterator[Word | NotTried]:
    mine, theirs = base.shape, goal.shape
    assert mine is not None
    rules = (pixels.FIRST,) if mine[0] == 1 else (pixels.AVERAGED, pixels.LUMINANCE)
    if theirs is None:
        yield from rules
    elif mine[0] != theirs[0]:
        rules = (pixels.REPEATED, pixels.FIRST) if mine[0] == 1 else rules
        yield from (f"{rule}{pixels.ALONE}" for rule in rules)


def _distinct(levels: list[str], old: Word) -> list[str]:
    return [level for level in levels if level != old]
