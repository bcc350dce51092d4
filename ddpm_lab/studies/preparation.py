"""Both recipes of a verdict built and tried before anything runs: what differs, and what it warns of."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ddpm_lab.runner.prepare import prepare
from ddpm_lab.runtime.host import pick_threads
from ddpm_lab.studies.question import Question, Side
from registry.errors import BadInput


def examine(question: Question, device: torch.device) -> Iterator[str]:
    """Lines for the user.

    Raises:
        BadInput: a part cannot be built, or the extractor that decides cannot be had.
    """
    sizes = []
    for side in (question.a, question.b):
        try:
            size, lines = _built(question, side, device)
        except BadInput as error:
            raise BadInput(f"{side.letter}: {error}") from None
        sizes.append(size)
        yield from (f"warning: {side.letter}: {line}" for line in lines)
    found = question.differing
    for one in found:
        yield f"B differs from A in {one.key}: {one.new!r}, not {one.old!r}"
    if len(found) > 1:
        yield "warning: B differs from A in more than one key, so no verdict can say which of them made the difference"
    for name, one, other in zip(("parameters", "GFLOP per image"), *sizes, strict=True):
        if one != other:
            yield f"B has {other} {name}, A {one}"
    if question.shared:
        yield "A and B differ in sampling alone: both sample from the same trained runs"


def _built(question: Question, side: Side, device: torch.device) -> tuple[tuple[str, str], list[str]]:
    experiment = side.recipe.experiment
    prepared = prepare(experiment, device, lambda: pick_threads(experiment.train.threads))
    extractor = question.metric.partition("/")[2]
    for choice in experiment.evaluate.features:
        if choice.name == extractor:
            try:
                prepared.try_extractor(choice)
            except BadInput as error:
                raise BadInput(f"--metric: {question.metric} cannot be measured: {error}") from None
    flops = prepared.flops_per_image
    size = f"{prepared.model.parameters:,}", "unknown" if flops is None else f"{flops / 1e9:.3f}"
    return size, list(prepared.warnings())
