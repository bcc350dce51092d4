"""The points of a curve: one checkpoint in other numbers of steps, with other EMAs, or at other scales of guidance."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from ddpm_lab.config.schema import Experiment, Sampling
from ddpm_lab.diffusion.build import build_data, build_levels, build_path
from ddpm_lab.evaluation.evaluator import Evaluator, measure
from ddpm_lab.evaluation.extractors import suited_first
from ddpm_lab.inference.post_hoc_ema import reconstruct
from ddpm_lab.inference.sampling_overrides import changed
from ddpm_lab.inference.trained_run import Run
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.launcher import is_main
from ddpm_lab.runtime.signals import NotFinite
from ddpm_lab.storage.files import sha256
from ddpm_lab.storage.json_text import write_json
from ddpm_lab.storage.measurement import CurvePoint, Kind, plain, read_points, read_result
from ddpm_lab.storage.run_folder import RunFolder
from registry.averages import AVERAGES
from registry.choice import Choice
from registry.errors import BadInput
from registry.grids import GRIDS
from registry.metrics import METRICS
from registry.metrics.interval import BLOCKS
from registry.samplers import SAMPLERS

STEPS = (5.0, 10.0, 20.0, 50.0)
SCALES = (1.0, 1.5, 2.0, 3.0, 5.0)
SHORT = "dpmpp_2m/log_snr"  # sampled in few steps, beside the run's own sampler


class Point(NamedTuple):
    """A sampling procedure: the curve that it is on, and its place there."""

    curve: str
    at: float | str
    sampling: Sampling


def points(run: Run, sampling: Sampling, kind: Kind, samplers: Sequence[str] | None, at: Sequence[float] | None) -> list[Point]:
    """The sampling procedures that make up the curves.

    Raises:
        BadInput: there is no such sampler, the run has no classes or no snapshots, or a number is out of bounds.
    """
    if samplers is not None and kind != "nfe":
        raise BadInput(f"--samplers: a curve over {kind} has the sampler of --sampler; the option is for --curve nfe")
    if kind == "nfe":
        return list(_over_steps(run, sampling, samplers, at))
    if kind == "guidance":
        return [Point("", scale, changed(run, sampling, guidance=scale)) for scale in at or SCALES]
    if at:
        for line in distributed.from_main(lambda: reconstruct(run, at)):
            say(line)
    names = sorted(run.folder.known_weights, key=lambda name: _length(run, name))
    return [Point("", name, changed(run, sampling, weights=name)) for name in names]


def file_of(run: Run, kind: Kind) -> Path:
    """Where the points of all curves of that kind are kept."""
    return run.folder.path / f"curve-{kind}.json"


def measure_points(run: Run, evaluators: list[Evaluator], found: list[Point], kind: Kind, n: int) -> list[CurvePoint]:
    """The result of each point. What is not known yet is sampled, measured and kept at once."""
    run.folder = run.folder.writable()
    rows = known_points(run, evaluators, found, kind, n)
    for number, (point, row) in enumerate(zip(found, rows, strict=True), 1):
        if row is None:
            try:
                new = _measured(run, evaluators, point, n)
            except NotFinite as error:
                say(f"{number} of {len(found)}: left out: {' '.join(filter(None, (point.curve, str(point.at))))}: {error}")
                continue
            if is_main():
                file = file_of(run, kind)
                write_json(file, plain([*_read(file), new]))
                value = new.value_of(evaluators[0].name)
                say(f"{number} of {len(found)}: {new.named(kind)}: {value.metric} {value.number(value.value)}")
            rows[number - 1] = new
    done = [row for row in rows if row is not None]
    if not done:
        raise NotFinite("no point of the curve could be measured; the lines above say why")
    return done


def known_points(run: Run, evaluators: list[Evaluator], found: list[Point], kind: Kind, n: int) -> list[CurvePoint | None]:
    """The result of each point that has been measured by these extractors over n images; None for the others."""
    rows = distributed.from_main(lambda: _read(file_of(run, kind)))
    prints = {evaluator.protocol(METRICS.main, n).fingerprint for evaluator in evaluators}
    known = []
    for point in found:
        generation = run.generation(point.sampling, point.sampling.seed)
        weights = _weights(run, point.sampling)
        row = next(
            (one for one in rows if one.generation == generation and one.weights == weights and one.fingerprints >= prints),
            None,
        )
        known.append(row and replace(row, curve=point.curve, at=point.at))
    return known


def known_over_steps(folder: RunFolder, samplers: Sequence[str], at: Sequence[float], n: int) -> list[CurvePoint]:
    """Those of a run's curves over evaluations, as it samples now, that have been measured, in all extractors of its result."""
    if not (folder.path / "curve-nfe.json").is_file():
        return []
    run = Run(folder.path)
    had, data = {one.extractor for one in read_result(folder.result).of_main}, build_data(run.experiment)
    chosen = [choice for choice in suited_first(run.experiment.evaluate.features, data) if choice.name in had]
    evaluators = [Evaluator(choice, data, run.device) for choice in chosen]
    rows = known_points(run, evaluators, points(run, run.experiment.sampling, "nfe", samplers, at), "nfe", n)
    return [replace(row, metrics=tuple(row.value_of(one.name) for one in evaluators)) for row in rows if row is not None]


def require_over_steps(experiment: Experiment, samplers: Sequence[str], at: Sequence[int]) -> None:
    """Nothing where a run of that experiment will have these curves.

    Raises:
        BadInput: there is no such sampler or sampling schedule, or it cannot have so many steps.
    """
    sampling = experiment.sampling
    for name in samplers:
        sampler, _, grid = name.partition("/")
        try:
            SAMPLERS.check(sampler, {})
            chosen = Choice(grid, GRIDS.check(grid, {})) if grid else sampling.grid
            for steps in at:
                build_levels(sampling.model_copy(update={"steps": steps, "grid": chosen}), build_path(experiment))
        except BadInput as error:
            raise BadInput(f"{name}: {error}") from None


def _over_steps(run: Run, sampling: Sampling, samplers: Sequence[str] | None, at: Sequence[float] | None) -> Iterator[Point]:
    own, path = f"{sampling.sampler.name}/{sampling.grid.name}", build_path(run.experiment)
    for name in samplers or dict.fromkeys((own, SHORT)):
        sampler, _, grid = name.partition("/")
        named = changed(run, sampling, sampler=sampler, grid=grid or None)
        for steps in at or [number for number in STEPS if number <= path.steps]:
            if steps != int(steps) or steps < 1:
                raise BadInput(f"--at: {steps:g} is not a number of steps")
            try:
                way = changed(run, named, steps=int(steps))
                build_levels(way, path)
            except BadInput as error:
                if samplers is not None or name == own:
                    raise
                say(f"left out: {name} in {steps:g} steps: {error}")  # nobody asked for it by name
                continue
            yield Point(f"{way.sampler.name}, {way.grid.name} grid", int(steps), way)


def _measured(run: Run, evaluators: list[Evaluator], point: Point, n: int) -> CurvePoint:
    generation = run.generation(point.sampling, point.sampling.seed)
    sampler, start = run.sampler(point.sampling), time.monotonic()
    labels = sampler.labels(n)
    with _counted(sampler.network) as images:
        batches = sampler.images(n, point.sampling.seed, point.sampling.batch, labels)
        found = measure(evaluators, batches, n, "evaluating", labels=labels, shared=True, blocks=BLOCKS)
    evaluations = float(distributed.sum_of(torch.tensor(sum(images)))) / n
    measured = zip(evaluators, found, strict=True) if is_main() else ()
    records = tuple(evaluator.main_result(statistics, generation) for evaluator, statistics in measured)
    seconds = time.monotonic() - start
    return CurvePoint(point.curve, point.at, generation, _weights(run, point.sampling), evaluations, seconds, records)


def _weights(run: Run, sampling: Sampling) -> str:
    """The hash of the file: a name may come to stand for other weights, of a resumed run or of another `ema --std`."""
    file = run.folder.weights(run.weights_of(sampling))
    return sha256(file) if file.is_file() else ""


@contextlib.contextmanager
def _counted(network: nn.Module) -> Iterator[list[int]]:
    """How many images each call of the network in the block is for."""
    found: list[int] = []
    hook = network.register_forward_pre_hook(lambda _, inputs: found.append(len(inputs[0])))
    try:
        yield found
    finally:
        hook.remove()


def _length(run: Run, name: str) -> tuple[int, float, str]:
    """For sorting: raw weights, exponential averages by half-life, power-function averages by width, others."""
    choice = run.experiment.train.averages.get(name)
    if made := re.fullmatch(r"ema_std([0-9]+\.[0-9]+)", name):  # by `ddpm-lab ema`
        return 2, float(made[1]), name
    if choice is None:
        return (0 if name == "raw" else 3), 0.0, name
    traits = AVERAGES.part(choice.name).traits
    if traits.power_std is not None:
        return 2, traits.power_std(choice.options), name
    return (3, 0.0, name) if traits.length is None else (1, float(choice.options[traits.length]), name)


def _read(file: Path) -> list[CurvePoint]:
    if not file.is_file():
        return []
    try:
        return read_points(file)
    except BadInput as error:
        raise BadInput(f"{error}: not the points of a curve; move it away to measure them again") from None
