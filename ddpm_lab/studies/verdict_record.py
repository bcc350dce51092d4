"""What a verdict is kept as: the pairs, what differs, the other metrics, what it cost."""

from __future__ import annotations

import shlex
import statistics
import time
from collections.abc import Sequence

from ddpm_lab.storage.measurement import Word
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.studies.decision import Decision, counted, sentence
from ddpm_lab.studies.pairs import Sample
from ddpm_lab.studies.question import Question
from ddpm_lab.studies.verdict_file import BEGUN, FAILED, PairRecord, Verdict


def compose(
    question: Question, most: int, outcome: str, found: Decision, pairs: Sequence[tuple[Sample, Sample]], why: str = ""
) -> Verdict:
    """The record of what is known now; `why` a run failed."""
    seconds = sum(sample.seconds for pair in pairs for sample in pair)
    text = sentence(found, question.metric.partition("/")[0], question.rule, seconds / 60)
    text = {BEGUN: "begun, and not finished", FAILED: f"failed after {counted(found.pairs)}: {why}"}.get(outcome, text)
    records = [
        PairRecord(
            (question.a.first_seed + number, question.b.first_seed + number), (one.run, two.run), (one.value, two.value),
            two.value / one.value,
        )
        for number, (one, two) in enumerate(pairs)
    ]  # fmt: skip
    first = pairs[0] if pairs else ()
    return Verdict(
        question=question.id, outcome=outcome, text=text, a=shlex.join(question.a.words), b=shlex.join(question.b.words),
        budget=question.a.budget, differs={one.key: (one.old, one.new) for one in question.differing}, metric=question.metric,
        margin=question.rule.margin, alpha=question.rule.alpha, most=most, date=time.strftime("%Y-%m-%d %H:%M:%S"),
        ratio=found.ratio, interval=found.interval, needed=found.needed, pairs=tuple(records),
        fingerprint=first[0].record.fingerprint if first else "", generation=tuple(map(_made, first)), others=_others(pairs),
        costs=_costs(question, pairs), seconds=seconds,
        environment=RunFolder.open(first[0].run).recorded_environment() if first else None,
    )  # fmt: skip


def _made(sample: Sample) -> dict[str, Word]:
    return {key: value for key, value in sample.record.generation.items() if key != "seed"}


def _others(pairs: Sequence[tuple[Sample, Sample]]) -> dict[str, tuple[float, float]]:
    """The means of all other metrics that every run has."""
    samples = [sample for pair in pairs for sample in pair]
    names = [name for name in samples[0].metrics if all(name in one.metrics for one in samples)] if samples else []
    decided = f"{samples[0].record.metric}/{samples[0].record.extractor}" if samples else ""
    sides = list(zip(*pairs, strict=True))
    return {
        name: (statistics.fmean(one.metrics[name] for one in sides[0]), statistics.fmean(one.metrics[name] for one in sides[1]))
        for name in names
        if name != decided
    }


def _costs(question: Question, pairs: Sequence[tuple[Sample, Sample]]) -> dict[str, tuple[float | None, float | None]]:
    """Of one run of A and one of B, on average."""
    if not pairs:
        return {}
    a, b = (list(side) for side in zip(*pairs, strict=True))

    def mean(key: str, side: Sequence[Sample]) -> float | None:
        values = [getattr(one.result, key) for one in side]
        return None if None in values else statistics.fmean(values)

    found = {key: (mean(key, a), mean(key, b)) for key in ("parameters", "flops_per_image", "training_in_all")}
    found["seconds"] = (statistics.fmean(one.seconds for one in a), statistics.fmean(one.seconds for one in b))
    return found
