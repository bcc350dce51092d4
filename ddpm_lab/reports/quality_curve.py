"""Quality of one checkpoint against the number of evaluations, the length of the EMA, or the scale of the guidance."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from ddpm_lab.config.part import Choice
from ddpm_lab.config.schema import Experiment, Sampling
from ddpm_lab.diffusion.build import build_data, build_levels, build_path
from ddpm_lab.diffusion.sampling import ImageSampler
from ddpm_lab.evaluation.evaluator import Evaluator, measure
from ddpm_lab.inference.post_hoc_ema import reconstruct
from ddpm_lab.inference.sampling_overrides import changed
from ddpm_lab.inference.trained_run import Run
from ddpm_lab.reports.plots import plain_numbers
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.console import aligned, say
from ddpm_lab.runtime.launcher import is_main
from ddpm_lab.runtime.signals import NotFinite
from ddpm_lab.storage.files import sha256, write_whole
from ddpm_lab.storage.json_text import write_json
from ddpm_lab.storage.measurement import CurvePoint, plain, read_points
from ddpm_lab.storage.run_folder import RunFolder
from registry.averages import AVERAGES
from registry.errors import BadInput
from registry.grids import GRIDS
from registry.metrics import METRICS
from registry.metrics.interval import BLOCKS
from registry.samplers import SAMPLERS

Kind = Literal["nfe", "ema", "guidance"]
ACROSS = {"nfe": "evaluations of the network for an image", "ema": "weights", "guidance": "guidance scale"}
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
    """What each point comes to. What is not known yet is sampled, measured and kept at once."""
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
                say(f"{number} of {len(found)}: {_named(new, kind)}: {value.metric} {value.number(value.value)}")
            rows[number - 1] = new
    done = [row for row in rows if row is not None]
    if not done:
        raise NotFinite("no point of the curve could be measured; the lines above say why")
    return done


def known_points(run: Run, evaluators: list[Evaluator], found: list[Point], kind: Kind, n: int) -> list[CurvePoint | None]:
    """What each point came to that has been measured by these extractors over n images; None for the others."""
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
    """Those of a run's curves over evaluations, as it samples now, that have been measured, by its first extractor alone."""
    if not (folder.path / "curve-nfe.json").is_file():
        return []
    run = Run(folder.path)
    evaluator = Evaluator(run.experiment.evaluate.features[0], build_data(run.experiment), run.device)
    rows = known_points(run, [evaluator], points(run, run.experiment.sampling, "nfe", samplers, at), "nfe", n)
    return [replace(row, metrics=(row.value_of(evaluator.name),)) for row in rows if row is not None]


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


def lines(rows: list[CurvePoint], kind: Kind, extractor: str) -> Iterator[str]:
    """The points as a table, with what their values are against."""
    cells = []
    for row in rows:
        record = row.value_of(extractor)
        around = record.around(record.interval)
        cells.append([_named(row, kind), f"{row.evaluations:g}", record.number(record.value), around])
    record = rows[0].value_of(extractor)
    yield from aligned([["", "evaluations", record.metric, "95 %"], *cells])
    floor = f" floor {record.number(record.floor)};" if record.floor is not None else ""
    yield (
        f"{record.metric} by {record.measured_by}, N = {record.n:,} against {record.protocol.reference};{floor}"
        f" protocol {record.fingerprint}"
    )


def draw(rows: list[CurvePoint], kind: Kind, extractor: str, file: Path) -> Path:
    """The curves as a picture, with intervals and floor."""
    from matplotlib.figure import Figure  # slow to import
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name in dict.fromkeys(row.curve for row in rows):
        own = [row for row in rows if row.curve == name]
        records = [row.value_of(extractor) for row in own]
        values = [record.value or 0.0 for record in records]
        around = [record.interval or (value, value) for record, value in zip(records, values, strict=True)]
        below = [value - low for value, (low, _) in zip(values, around, strict=True)]
        above = [high - value for value, (_, high) in zip(values, around, strict=True)]
        across = [row.evaluations if kind == "nfe" else row.at for row in own]
        axes.errorbar(across, values, [below, above], marker="o", capsize=3, label=name or None)
    record = rows[0].value_of(extractor)
    if record.floor is not None:
        axes.axhline(record.floor, linestyle=":", color="gray", label=f"floor: {record.floor_n:,} held-out images")
    axes.set_xlabel(ACROSS[kind])
    axes.set_ylabel(f"{record.metric}, {extractor}, N = {record.n:,}")
    axes.set_yscale("log")
    if kind == "nfe":
        axes.set_xscale("log")
        ticks = sorted({row.evaluations for row in rows})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_formatter(NullFormatter())
    if kind == "ema":
        axes.tick_params("x", rotation=30)
    plain_numbers(axes.yaxis)
    axes.grid(alpha=0.2, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    write_whole(file, lambda path: figure.savefig(path, format="png", dpi=150))
    return file


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
    drawing, start = run.drawing(point.sampling), time.monotonic()
    labels = drawing.labels(n)
    with _Count(drawing) as count:
        batches = drawing.images(n, point.sampling.seed, point.sampling.batch, labels)
        found = measure(evaluators, batches, n, "evaluating", labels=labels, shared=True, blocks=BLOCKS)
    evaluations = float(distributed.sum_of(torch.tensor(count.images))) / n
    judged = zip(evaluators, found, strict=True) if is_main() else ()
    records = tuple(one.main_result(images, generation) for one, images in judged)
    seconds = time.monotonic() - start
    return CurvePoint(point.curve, point.at, generation, _weights(run, point.sampling), evaluations, seconds, records)


def _weights(run: Run, sampling: Sampling) -> str:
    """The hash of the file: a name may come to stand for other weights, of a resumed run or of another `ema --std`."""
    file = run.folder.weights(run.weights_of(sampling))
    return sha256(file) if file.is_file() else ""


class _Count:
    """Counts the images that pass through a sampler's network."""

    def __init__(self, drawing: ImageSampler) -> None:
        self.images = 0
        self._network = drawing.network

    def __enter__(self) -> _Count:
        self._hook = self._network.register_forward_pre_hook(self._see)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _see(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.images += len(inputs[0])


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


def _named(row: CurvePoint, kind: Kind) -> str:
    return {
        "nfe": f"{row.curve}, {row.at} steps", "ema": f"{row.at} weights", "guidance": f"guidance scale {row.at}"
    }[kind]  # fmt: skip
