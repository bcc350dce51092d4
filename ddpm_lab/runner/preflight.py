"""`check`: what an experiment is and what it will take, without training anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ddpm_lab.config.load import Recipe, dump
from ddpm_lab.config.schema import Experiment
from ddpm_lab.diffusion.build import build_data, build_model, build_objective, build_procedure
from ddpm_lab.diffusion.compatibility import require_fit, terminal_snr, warnings
from ddpm_lab.diffusion.cost import flops_per_image, parameter_count
from ddpm_lab.diffusion.model import DataShape
from ddpm_lab.diffusion.sampling import Drawing
from ddpm_lab.evaluation.evaluator import CAVEAT, suited_first, suits, tried_extractor
from ddpm_lab.inference.trained_run import guides
from ddpm_lab.runtime.console import clock
from ddpm_lab.runtime.device import autocast, describe_device, describe_memory_format, pick_compile, pick_device, pick_precision
from ddpm_lab.runtime.host import pick_threads, settle
from ddpm_lab.storage.names import require_experiment_name
from ddpm_lab.training.trainer import Trainer
from ddpm_lab.training.trial import try_parts
from registry.blame import PartFails
from registry.datasets import ImageSet
from registry.errors import BadInput
from registry.features import made_for
from registry.plugins import REGISTRIES

TRIAL_STEPS, TRIAL_SECONDS, LONGEST_TRIAL = 8, 1.0, 6.0
SPEEDUP = 0.75  # of n threads it is n to this power: a training step on two cores takes 158 ms with one thread, 94 with two


def lines(recipe: Recipe, device: str | None, full: bool = False) -> Iterator[str]:
    """The text of `ddpm-lab check`: what it found, warnings first, and the whole experiment as YAML where `full`.

    Raises:
        BadInput: a part cannot be built.
    """
    experiment = recipe.experiment
    require_experiment_name(recipe.name)
    torch_device = pick_device(device)
    precision = pick_precision(experiment.train.precision, torch_device)
    settle(torch_device, pick_threads(experiment.train.threads))
    data = build_data(experiment)
    shape = DataShape.of(data)
    model = build_model(experiment, shape, torch_device)
    objective = build_objective(experiment, shape, model)
    require_fit(experiment, model, objective)
    procedure = build_procedure(experiment.sampling, model, guides(model, shape, None))
    try_parts(experiment, data, model, objective, procedure, precision)
    unavailable = list(_unavailable(experiment, data, torch_device))
    for warning in warnings(experiment, model, objective, shape.std):
        yield f"warning     {warning}"
    yield from unavailable
    yield f"data        {describe_data(data)}"
    flops = flops_per_image(model, shape)
    yield f"network     {parameter_count(model):,} parameters, {flops / 1e9:.3f} GFLOP per image forward"
    path = model.diffusion.path
    yield f"path        {experiment.schedule.name}, T = {path.steps}, terminal SNR {terminal_snr(path):.2e}"
    for choice in suited_first(experiment.evaluate.features, data):
        made = made_for(REGISTRIES["features"].part(choice.name).make)
        yield f"features    {choice.name}{'' if suits(choice, data) else f', {CAVEAT} but for {made}'}"
    layout = describe_memory_format(experiment.train.memory_format, torch_device)
    compiled = ", compiled" if pick_compile(experiment.train.compile, torch_device) else ""
    yield f"machine     {describe_device(torch_device)}; {precision}, {layout}{compiled}"
    trainer = Trainer(experiment, model, objective, data.train, precision)
    yield from _expected_time(experiment, trainer, Drawing(model, model.network, procedure, shape.image_shape, precision))
    if full:
        yield f"\n{dump(experiment)}"


def _unavailable(experiment: Experiment, data: ImageSet, device: torch.device) -> Iterator[str]:
    for choice in experiment.evaluate.features:
        try:
            tried_extractor(choice, data, device)
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


def _expected_time(experiment: Experiment, trainer: Trainer, drawing: Drawing) -> Iterator[str]:
    """Timed on a few steps of the real thing, whose weights nobody keeps."""
    train = experiment.train
    batch = trainer.batch(0)
    per_step = _seconds(lambda: trainer.step(batch), trainer.device)
    training, speed = per_step * trainer.total / train.batch, train.batch / per_step
    yield f"training    {trainer.total:,} images, about {clock(training)} ({speed:,.0f} images/s on an idle machine)"
    count = min(64, experiment.evaluate.n)
    level = torch.zeros(count, dtype=torch.float64, device=trainer.device)
    noisy = torch.zeros(count, *drawing.shape, device=trainer.device)
    with torch.inference_mode(), autocast(drawing.precision, trainer.device):
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
