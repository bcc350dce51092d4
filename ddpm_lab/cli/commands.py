"""`sample`, `evaluate`, `ema` and `export`: what they do with their arguments."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from ddpm_lab.config.overrides import value_of
from ddpm_lab.config.part import Choice, read_choice
from ddpm_lab.config.schema import Sampling
from ddpm_lab.diffusion.build import build_data, build_images
from ddpm_lab.diffusion.model import DataShape
from ddpm_lab.evaluation.evaluator import BATCH, Evaluator, evaluate_images, evaluators
from ddpm_lab.evaluation.held_out_loss import held_out_record
from ddpm_lab.evaluation.measurement import Record, describe, failures, settled
from ddpm_lab.export import export as write_export
from ddpm_lab.inference.post_hoc_ema import reconstruct
from ddpm_lab.inference.sampling_overrides import changed
from ddpm_lab.inference.trained_run import Run, class_number
from ddpm_lab.reports import quality_curve as curve
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.device import pick_device
from ddpm_lab.runtime.signals import NotFinite
from ddpm_lab.storage.files import write_whole
from ddpm_lab.storage.images import save_grid, unlike, write_images
from ddpm_lab.storage.json_text import write_json
from registry.datasets.npz_reader import read_images, read_made_by
from registry.errors import BadInput
from registry.plugins import SHELVES

GRID = 256  # images in a grid, at most
DRAWING_OPTIONS = ("sampler", "steps", "seed", "guidance", "weights")  # of the command line


def sample(arguments: argparse.Namespace) -> None:
    """Draw images from a run: a PNG grid, and an .npz where one is asked for."""
    run = Run(arguments.run, arguments.device, arguments.overrides)
    sampling = _sampling(run, arguments)
    for option, suffix in (("out", ".npz"), ("png", ".png")):
        if (path := getattr(arguments, option)) is not None:
            _require_writable(path, f"--{option}", suffix)
    chosen = None if arguments.label is None else class_number(arguments.label, run.shape.class_names)
    images, labels = run.sample_with_labels(arguments.n, chosen=chosen, sampling=sampling)
    if not distributed.is_main():
        return
    generation = run.generation(sampling, sampling.seed)
    if arguments.out is not None:
        write_images(arguments.out, images, labels, {"run": run.folder.id, **generation})
        say(f"images: {arguments.out}")
    about = json.dumps({"run": run.folder.id, **generation, "n": arguments.n, "class": "all" if chosen is None else chosen})
    png = arguments.png or unlike(arguments.out.with_suffix(".png") if arguments.out else run.folder.path / "sample.png", about)
    save_grid(png, images[:GRID], about=about)
    say(f"grid: {png}" + (f" (the first {GRID})" if arguments.n > GRID else ""))


def evaluate(arguments: argparse.Namespace) -> None:
    """Measure a run or an .npz; results on standard output, and as JSON in the run's folder or beside the .npz."""
    path = Path(arguments.run)
    for option in ("samplers", "at"):
        if getattr(arguments, option) is not None and arguments.curve is None:
            raise BadInput(f"--{option}: the option is for --curve nfe, ema or guidance")
    if arguments.curve is not None:
        return _curve(arguments)
    if path.suffix == ".npz":
        results, file = _evaluate_npz(path, arguments)
    else:
        results, file = _evaluate_run(arguments)
    if not distributed.is_main():
        return
    for result in results:
        print(describe(result))
    write_json(file, results)
    say(f"results: {file}")
    if why := failures(results):
        raise NotFinite(f"{arguments.run}: FID could not be measured: {'; '.join(why)}")


def ema(arguments: argparse.Namespace) -> None:
    """Make averages of other lengths."""
    for line in reconstruct(Run(arguments.run, "cpu"), arguments.std):
        say(line)


def export(arguments: argparse.Namespace) -> None:
    """Write a run's network to a folder."""
    run = Run(arguments.run, "cpu")
    sampling = run.experiment.sampling
    if arguments.weights is not None:
        sampling = changed(run, sampling, weights=arguments.weights)
    for line in write_export(run, sampling, arguments.directory):
        say(line)


def _sampling(run: Run, arguments: argparse.Namespace) -> Sampling:
    """The run's way of drawing, with what the command line says instead."""
    given = {option: getattr(arguments, option) for option in DRAWING_OPTIONS}
    return changed(run, run.experiment.sampling, **given)


def _curve(arguments: argparse.Namespace) -> None:
    for option in ("dataset", "extrapolate"):
        if getattr(arguments, option):
            raise BadInput(f"--{option}: a curve is measured by FID against the run's own data; leave it out")
    varied = {"nfe": "steps", "ema": "weights", "guidance": "guidance"}[arguments.curve]
    if getattr(arguments, varied) is not None:
        raise BadInput(f"--{varied}: that is what the curve goes over; name its points by --at")
    if arguments.sampler is not None and arguments.samplers is not None:
        raise BadInput("--sampler: --samplers names them all; leave one of the two out")
    if Path(arguments.run).suffix == ".npz":
        raise BadInput(f"--curve: the images of {arguments.run} are drawn already; name a run")
    run = Run(arguments.run, arguments.device, arguments.overrides)
    samplers = arguments.samplers.split(",") if arguments.samplers else None
    found = curve.points(run, _sampling(run, arguments), arguments.curve, samplers, arguments.at)
    ready, _ = _evaluators_of_run(run, arguments)
    if not ready:
        raise BadInput("--features: none of the extractors can be had; the lines above say why")
    rows = curve.measure_points(run, ready, found, arguments.curve, _number(run, arguments))
    if distributed.is_main():
        file = curve.file_of(run, arguments.curve)
        say(f"points: {file}")
        for number, evaluator in enumerate(ready):
            for line in curve.lines(rows, arguments.curve, evaluator.name):
                print(line)
            picture = file.with_suffix(".png") if number == 0 else file.with_name(f"{file.stem}-{evaluator.name}.png")
            say(f"plot: {curve.draw(rows, arguments.curve, evaluator.name, picture)}")


def _number(run: Run, arguments: argparse.Namespace) -> int:
    n: int = arguments.n or run.experiment.evaluate.n
    if n < 2:
        raise BadInput("-n: a distance between distributions needs two images or more")
    return n


def _evaluators_of_run(run: Run, arguments: argparse.Namespace) -> tuple[list[Evaluator], list[Record]]:
    """Those against the data that it was trained on."""
    with distributed.first_on_each_machine():
        data = build_data(run.experiment)
    if DataShape.of(data).train_hash != run.shape.train_hash:
        raise BadInput(f"{run.folder.data}: the data set '{data.name}' is no longer the one that this run was trained on")
    return evaluators(_extractors(arguments, run.experiment.evaluate.features), data, run.device)


def _evaluate_run(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], Path]:
    if arguments.dataset is not None:
        raise BadInput("--dataset: a run is measured against the data that it was trained on; the option is for an .npz")
    run = Run(arguments.run, arguments.device, arguments.overrides)
    sampling = _sampling(run, arguments)
    n, drawing = _number(run, arguments), run.drawing(sampling)
    ready, missing = _evaluators_of_run(run, arguments)
    batches = drawing.images(n, sampling.seed, sampling.batch, drawing.labels(n))
    made_by, labels = run.generation(sampling, sampling.seed), drawing.labels(n)
    results = evaluate_images(ready, batches, n, made_by, labels=labels, extrapolate=arguments.extrapolate)
    if ready and distributed.is_main():
        loss = held_out_record(drawing.model, drawing.network, ready[0].data, n, run.precision, made_by)
        results.append(settled(loss))
    # One file for each way of drawing and of judging, so that a second evaluation does not bury the first.
    judged = [evaluator.name for evaluator in ready], arguments.extrapolate
    made = hashlib.sha256(json.dumps([made_by, *judged]).encode()).hexdigest()[:8]
    return [*results, *missing], run.folder.path / f"evaluation-n{n}-{made}.json"


def _evaluate_npz(path: Path, arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], Path]:
    if arguments.overrides:
        raise BadInput(f"'{arguments.overrides[0]}': the images of an .npz are drawn already; overrides are for a run")
    for option in DRAWING_OPTIONS:
        if getattr(arguments, option) is not None:
            raise BadInput(f"--{option}: the images of an .npz are drawn already; the option is for a run")
    images = read_images(path)
    n = arguments.n or len(images)
    if n > len(images):
        raise BadInput(f"{path}: holds {len(images)} images, fewer than the {n} asked for")
    if n < 2:
        raise BadInput(f"{path}: a distance between distributions needs two images or more")
    dataset = _reference(arguments.dataset or "fashion_mnist")
    with distributed.first_on_each_machine():
        data = build_images(dataset)
    ready, missing = evaluators(_extractors(arguments, (Choice("fashion_cnn", {}),)), data, pick_device(arguments.device))
    batches = ((start, images[:n][start : start + BATCH]) for start in distributed.dealt(range(0, n, BATCH)))
    made_by = {"source": path.name, **(read_made_by(path) or {})}
    results = evaluate_images(ready, batches, n, made_by, extrapolate=arguments.extrapolate)
    return [*results, *missing], path.with_suffix(".evaluation.json")


def _reference(text: str) -> Choice:
    """`cifar10`, or `{name: image_folder, folder: PATH}`, as in an experiment."""
    try:
        return read_choice(value_of(text), SHELVES["datasets"].check, "dataset")
    except BadInput as error:
        raise BadInput(f"--dataset: {error}") from None


def _extractors(arguments: argparse.Namespace, default: tuple[Choice, ...]) -> list[Choice]:
    names = arguments.features.split(",") if arguments.features else None
    choices = [Choice(name, SHELVES["features"].check(name, {})) for name in names] if names else list(default)
    if arguments.inception_weights is None:
        return choices
    inception = Choice("inception_v3", SHELVES["features"].check("inception_v3", {"weights": arguments.inception_weights}))
    return [*(choice for choice in choices if choice.name != "inception_v3"), inception]


def _require_writable(file: Path, option: str, suffix: str) -> None:
    """Found out before an hour of sampling, not after."""
    if file.suffix != suffix:
        raise BadInput(f"{option}: '{file}' does not end in {suffix}")
    try:
        if file.exists() and not file.is_file():
            raise BadInput(f"{option}: {file} is there, and no file; name another place")
        write_whole(file.with_name(f"{file.name}.trial"), lambda path: path.touch())
        file.with_name(f"{file.name}.trial").unlink()
    except OSError as error:
        raise BadInput(f"{option}: {file} cannot be written ({error.strerror}); name a place that can") from None
