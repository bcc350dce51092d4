"""`check`: what an experiment is and what it will take, without training anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ddpm_lab.config.load import Recipe, dump
from ddpm_lab.diffusion.compatibility import terminal_snr
from ddpm_lab.evaluation.extractors import CAVEAT, suited_first, suits
from ddpm_lab.runner.prepare import Prepared, prepare
from ddpm_lab.runtime.console import clock
from ddpm_lab.runtime.device import autocast, describe_device, describe_memory_format, pick_compile, pick_device
from ddpm_lab.runtime.host import pick_threads
from ddpm_lab.storage.names import require_experiment_name
from registry.blame import PartFails
from registry.datasets import ImageSet
from registry.errors import BadInput
from registry.features import made_for
from registry.plugins import REGISTRIES

TRIAL_STEPS, TRIAL_SECONDS, LONGEST_TRIAL = 8, 1.0, 6.0
SPEEDUP = 0.75  # of n threads it is n to this power: a training step on two cores takes 158 ms with one thread, 94 with two


def lines(recipe: Recipe, device_name: str | None, full: bool = False) -> Iterator[str]:
    """The text of `ddpm-lab check`: what it found, warnings first, and the whole experiment as YAML where `full`.

    Raises:
        BadInput: a part cannot be built.
    """
    experiment = recipe.experiment
    require_experiment_name(recipe.name)
    device = pick_device(device_name)
    prepared = prepare(experiment, device, lambda: pick_threads(experiment.train.threads))
    data = prepared.data
    unavailable = list(_unavailable(prepared))
    for warning in prepared.warnings():
        yield f"warning     {warning}"
    yield from unavailable
    yield f"data        {describe_data(data)}"
    flops = prepared.flops_per_image
    counted = "" if flops is None else f", {flops / 1e9:.3f} GFLOP per image forward"
    yield f"network     {prepared.parameters:,} parameters{counted}"
    if prepared.start:
        yield f"start       {prepared.start.describe()}"
    path = prepared.model.diffusion.path
    yield f"path        {experiment.schedule.name}, T = {path.steps}, terminal SNR {terminal_snr(path):.2e}"
    for choice in suited_first(experiment.evaluate.features, data):
        made = made_for(REGISTRIES["features"].part(choice.name).make)
        yield f"features    {choice.name}{'' if suits(choice, data) else f', {CAVEAT} but for {made}'}"
    layout = describe_memory_format(experiment.train.memory_format, device)
    compiled = ", compiled" if pick_compile(experiment.train.compile, device) else ""
    yield f"machine     {describe_device(device)}; {prepared.precision}, {layout}{compiled}"
    yield from _expected_time(prepared)
    if full:
        yield f"\n{dump(experiment)}"


def _unavailable(prepared: Prepared) -> Iterator[str]:
    for choice in prepared.experiment.evaluate.features:
        try:
            prepared.try_extractor(choice)
        except PartFails:
            raise
        except BadInput as error:
            yield f"warning     {choice.name} is unavailable: {error}"


def describe_data(data: ImageSet) -> str:
    """Sizes, classes, standard deviation, hash, and where it comes from."""
    names = data.class_names or ()
    shown = f": {', '.join(names[:10])}{' ...' if len(names) > 10 else ''}" if names else ""
    kind, size = "gray" if data.image_shape[0] == 1 else "RGB", " x ".join(map(str, data.image_shape))
    place = "streamed" if data.train.streamed else "in memory"
    return (
        f"{data.name}: {len(data.train):,} + {len(data.test):,} {kind} images of {size}, {place}; {len(names) or 'no'}"
        f" classes{shown}; standard deviation {data.std:.4f}; SHA-256 {data.train.hash[:12]}; from {data.source};"
        f" licence: {data.license}"
    )


def _expected_time(prepared: Prepared) -> Iterator[str]:
    """Timed on a few steps of the real thing, whose weights nobody keeps."""
    experiment, trainer, train = prepared.experiment, prepared.trainer, prepared.experiment.train
    batch = trainer.batch(0)
    per_step = _seconds(lambda: trainer.step(batch), trainer.device)
    training, speed = per_step * trainer.total / train.batch, train.batch / per_step
    yield f"training    {trainer.total:,} images, about {clock(training)} ({speed:,.0f} images/s on an idle machine)"
    if (start := prepared.start) and start.images is not None and start.seconds is not None:
        yield (
            f"in all      {start.images + trainer.total:,} images, {clock(start.seconds + training)}: with the"
            f" {clock(start.seconds)} of the weights that it starts from"
        )
    count = min(64, experiment.evaluate.n)
    level = torch.zeros(count, dtype=torch.float64, device=trainer.device)
    noisy = torch.zeros(count, *prepared.shape.image_shape, device=trainer.device)
    with torch.inference_mode(), autocast(prepared.precision, trainer.device):
        per_pass = _seconds(lambda: trainer.model.diffusion.denoise(trainer.network, noisy, level, None).x0, trainer.device)
    passes = experiment.sampling.steps * experiment.evaluate.n / count
    yield (
        f"evaluation  N = {experiment.evaluate.n:,} by {experiment.sampling.sampler.name} in {experiment.sampling.steps} steps,"
        f" at most about {clock(per_pass * passes)}"
    )


def _seconds(call: Callable[[], Tensor | None], device: torch.device) -> float:
    """Of one call, on a machine that has nothing else to do.

    On a CPU that is what the call costs on one thread, shared out among all of them: beside other programs threads wait for
    each other, and the time on the wall is anything up to a hundred times more, from one trial to the next.
    """
    threads, clock = torch.get_num_threads(), time.monotonic
    if device.type == "cpu":
        torch.set_num_threads(1)
        clock = time.process_time
    try:
        times, begun = list[float](), time.monotonic()
        # The first one warms up; a slow network is judged by fewer.
        while len(times) < 2 or (
            time.monotonic() - begun < LONGEST_TRIAL and (len(times) <= TRIAL_STEPS or sum(times) < TRIAL_SECONDS)
        ):
            start = clock()
            result = call()
            if result is not None:
                float(result.sum())  # waits for the device
            times.append(clock() - start)
    finally:
        torch.set_num_threads(threads)
    quick = sorted(times[1:])[(len(times) - 1) // 4]
    return quick / threads**SPEEDUP if device.type == "cpu" else quick
