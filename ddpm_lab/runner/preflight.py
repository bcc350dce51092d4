"""`check`: what an experiment is and what it will take, without training anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm_lab.config.load import Recipe, dump
from ddpm_lab.diffusion.compatibility import space_of_loss, terminal_snr
from ddpm_lab.evaluation.extractors import CAVEAT, suited_first, suits
from ddpm_lab.runner.prepare import Prepared, prepare
from ddpm_lab.runtime.console import clock
from ddpm_lab.runtime.device import autocast, describe_device, describe_memory_format, pick_compile, pick_device
from ddpm_lab.runtime.host import pick_threads
from ddpm_lab.storage.json_text import Json
from ddpm_lab.storage.names import require_experiment_name
from registry.blame import PartFails
from registry.datasets import ImageSet
from registry.errors import BadInput
from registry.features import made_for
from registry.plugins import REGISTRIES

WARNING = "warning"
TRIAL_STEPS, TRIAL_SECONDS, LONGEST_TRIAL = 8, 1.0, 6.0
SPEEDUP = 0.75  # of n threads it is n to this power: a training step on two cores takes 158 ms with one thread, 94 with two


class Finding(NamedTuple):
    """A line of `check`, and the same for programs."""

    label: str
    text: str
    facts: Json


def lines(recipe: Recipe, device_name: str | None, full: bool = False) -> Iterator[str]:
    """The text of `ddpm-lab check`: what it found, warnings first, and the whole experiment as YAML where `full`.

    Raises:
        BadInput: a part cannot be built.
    """
    yield from (f"{found.label:<12}{found.text}" for found in findings(recipe, device_name))
    if full:
        yield f"\n{dump(recipe.experiment)}"


def facts(recipe: Recipe, device_name: str | None, full: bool = False) -> Json:
    """The same for programs. Raises as `lines` does."""
    found = list(findings(recipe, device_name))
    told: Json = {"experiment": recipe.name, "warnings": [one.text for one in found if one.label == WARNING]}
    for one in found:
        told |= one.facts
    return told | ({"resolved": recipe.experiment.model_dump(mode="json")} if full else {})


def findings(recipe: Recipe, device_name: str | None) -> Iterator[Finding]:
    """What there is to say, warnings first, and last what takes time to find out. Raises as `lines` does."""
    experiment = recipe.experiment
    require_experiment_name(recipe.name)
    device = pick_device(device_name)
    prepared = prepare(experiment, device, lambda: pick_threads(experiment.train.threads))
    data = prepared.data
    unavailable = list(_unavailable(prepared))
    yield from (Finding(WARNING, text, {}) for text in (*prepared.warnings(), *unavailable))
    sizes = {"train": len(data.train), "test": len(data.test), "image_shape": list(data.image_shape), "hash": data.train.hash}
    yield Finding("data", describe_data(data), {"data": {"name": data.name, **sizes}})
    flops, parameters = prepared.flops_per_image, prepared.model.parameters
    counted = "" if flops is None else f", {flops / 1e9:.3f} GFLOP per image forward"
    text = f"{parameters:,} parameters{counted}"
    yield Finding("network", text, {"parameters": parameters, "flops_per_image": flops})
    if prepared.start:
        yield Finding("start", prepared.start.describe(), {"start": prepared.start.describe()})
    path = prepared.model.diffusion.path
    snr = terminal_snr(path)
    text = f"{experiment.schedule.name}, T = {path.steps}, terminal SNR {snr:.2e}"
    yield Finding("path", text, {"schedule": experiment.schedule.name, "timesteps": path.steps, "terminal_snr": snr})
    if space := space_of_loss(experiment, prepared.model, prepared.trainer.objective, data.image_shape):
        yield Finding("loss", space, {"loss_space": space})
    chosen = suited_first(experiment.evaluate.features, data)
    for choice in chosen:
        made = made_for(REGISTRIES["features"].part(choice.name).make)
        text = f"{choice.name}{'' if suits(choice, data) else f', {CAVEAT} but for {made}'}"
        yield Finding("features", text, {"features": [one.name for one in chosen]})
    layout = describe_memory_format(experiment.train.memory_format, device)
    compiled = ", compiled" if pick_compile(experiment.train.compile, device) else ""
    machine = describe_device(device)
    text = f"{machine}; {prepared.precision}, {layout}{compiled}"
    yield Finding("machine", text, {"machine": machine, "precision": prepared.precision})
    yield from _expected_time(prepared)


def _unavailable(prepared: Prepared) -> Iterator[str]:
    for choice in prepared.experiment.evaluate.features:
        try:
            prepared.try_extractor(choice)
        except PartFails:
            raise
        except BadInput as error:
            yield f"{choice.name} is unavailable: {error}"


def describe_data(data: ImageSet) -> str:
    """Sizes, classes, standard deviation, hash, and where it comes from."""
    names = data.class_names or ()
    shown = f": {', '.join(names[:10])}{' ...' if len(names) > 10 else ''}" if names else ""
    channels = data.image_shape[0]
    kind, size = {1: "gray", 3: "RGB"}.get(channels, f"{channels}-channel"), " x ".join(map(str, data.image_shape))
    place = "streamed" if data.train.streamed else "in memory"
    return (
        f"{data.name}: {len(data.train):,} + {len(data.test):,} {kind} images of {size}, {place}; {len(names) or 'no'}"
        f" classes{shown}; standard deviation {data.std:.4f}; SHA-256 {data.train.hash[:12]}; from {data.source};"
        f" licence: {data.license}"
    )


def _expected_time(prepared: Prepared) -> Iterator[Finding]:
    """Timed on a few steps of the real thing, whose weights nobody keeps."""
    experiment, trainer, train = prepared.experiment, prepared.trainer, prepared.experiment.train
    batch = trainer.batch(0)
    per_step = _seconds(lambda: trainer.step(batch), trainer.device)
    training, speed = per_step * trainer.total / train.batch, train.batch / per_step
    text = f"{trainer.total:,} images, about {clock(training)} ({speed:,.0f} images/s on an idle machine)"
    yield Finding("training", text, {"images": trainer.total, "training_seconds": training})
    if (start := prepared.start) and start.images is not None and start.seconds is not None:
        text = (
            f"{start.images + trainer.total:,} images, {clock(start.seconds + training)}: with the"
            f" {clock(start.seconds)} of the weights that it starts from"
        )
        yield Finding(
            "in all", text, {"images_in_all": start.images + trainer.total, "seconds_in_all": start.seconds + training}
        )
    count = min(64, experiment.evaluate.n)
    level = torch.zeros(count, dtype=torch.float64)
    noisy = torch.zeros(count, *prepared.shape.image_shape, device=trainer.device)
    with torch.inference_mode(), autocast(prepared.precision, trainer.device):
        per_pass = _seconds(lambda: trainer.model.diffusion.denoise(trainer.network, noisy, level, None).x0, trainer.device)
    passes = experiment.sampling.steps * experiment.evaluate.n / count
    text = (
        f"N = {experiment.evaluate.n:,} by {experiment.sampling.sampler.name} in {experiment.sampling.steps} steps,"
        f" at most about {clock(per_pass * passes)}"
    )
    yield Finding("evaluation", text, {"n": experiment.evaluate.n, "evaluation_seconds": per_pass * passes})


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
        # The first one warms up; a slow network is timed by fewer.
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
