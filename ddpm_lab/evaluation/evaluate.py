"""All metrics of a set of images: in every extractor's features, in pixels, and of the network that made them."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

import torch
from torch import Tensor

from ddpm_lab.diffusion.sampling import ImageSampler
from ddpm_lab.evaluation.evaluator import Evaluator, measure
from ddpm_lab.evaluation.extractors import suited_first
from ddpm_lab.evaluation.held_out_errors import of_network
from ddpm_lab.evaluation.pixels import PixelSample, in_pixels
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.launcher import is_main
from ddpm_lab.runtime.signals import NotFinite
from ddpm_lab.storage.measurement import Generation, Measurement, unavailable
from registry.blame import PartFails
from registry.choice import Choice
from registry.datasets import ImageSet
from registry.errors import BadInput
from registry.metrics import METRICS
from registry.metrics.interval import BLOCKS


def evaluators(
    choices: Iterable[Choice], data: ImageSet, device: torch.device, wanted: AbstractSet[str] | None = None
) -> tuple[list[Evaluator], list[Measurement]]:
    """The evaluators that can be had, those made for such data first, and a record for each one that cannot."""
    ready, missing = [], []
    for choice in suited_first(choices, data):
        found, trouble = None, BadInput("another process of this run cannot have it")
        with distributed.first_on_each_machine():
            try:
                found = Evaluator(choice, data, device, wanted)
            except PartFails:
                raise
            except BadInput as error:
                trouble = error
        # What one process measures alone, the others would not add to.
        lacking = distributed.any_of(found is None)
        if found is not None and not lacking:
            ready.append(found)
        else:
            say(f"{choice.name} is unavailable: {trouble}")
            missing.append(unavailable(METRICS.main, choice.name, str(trouble)))
    return ready, missing


def evaluate_images(
    ready: list[Evaluator], batches: Iterable[tuple[int, Tensor]], total: int, generation: Generation, *,
    labels: Tensor | None = None, sampler: ImageSampler | None = None,
) -> list[Measurement]:  # fmt: skip
    """All wanted metrics of the images, from all evaluators; in several processes, in the main one.

    `labels` [total]: the classes that the images were asked for; `sampler`: what made them, where that is known.
    Where images or features are not finite, the records say so instead of a value.
    """
    if not ready:
        return []
    data, device, wanted = ready[0].data, ready[0].device, ready[0].wanted
    pixels, network = METRICS.needing(wanted, "pixels"), METRICS.needing(wanted, "network")
    sample, records = PixelSample(total), list[Measurement]()
    try:
        others = [sample] if pixels else []
        measured = measure(ready, batches, total, "evaluating", labels=labels, shared=True, blocks=BLOCKS, others=others)
    except NotFinite as error:
        records = [unavailable(METRICS.main, evaluator.name, str(error), failed=True) for evaluator in ready]
    else:
        if is_main():
            for evaluator, images in zip(ready, measured, strict=True):
                records += evaluator.results(images, generation)
            records += in_pixels(sample, data, device, generation, pixels) if pixels else []
    if not is_main():
        return []
    if sampler is None or not network:
        return records
    if not sampler.model.denoises:
        why = "its network is no denoiser of independent noise, of which this metric is"
        return [*records, *(unavailable(metric, "network", why) for metric in network)]
    return [*records, *of_network(sampler, data, total, generation, network)]
