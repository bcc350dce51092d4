"""Evaluate the images of a run, or of an .npz from any program."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_lab.cli.arguments import SAMPLING, add_sampling, count, numbers, sampling_of
from registry.errors import BadInput

if TYPE_CHECKING:
    from ddpm_lab.inference.trained_run import Run
    from ddpm_lab.storage.measurement import Measurement
    from registry.choice import Choice

PLAIN_FEATURES, PLAIN_DATA = "fashion_cnn", "fashion_mnist"  # of an .npz, where nobody says more


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab evaluate RUN`."""
    parser.add_argument("run", help="a run's folder, or an .npz with uint8 arr_0 [N, H, W, C]")
    parser.add_argument("-n", type=count, metavar="N", help="how many images (default: the experiment's, or all in the .npz)")
    parser.add_argument("--features", help="extractors, such as fashion_cnn,inception_v3 (default: the experiment's)")
    parser.add_argument("--extrapolate", action="store_true", help="also the FID of infinitely many images")
    parser.add_argument(
        "--curve", choices=("nfe", "ema", "guidance"), help="FID against evaluations, averages of the weights, or guidance"
    )
    parser.add_argument("--at", type=numbers, help="of the curve: steps, relative lengths, or scales, such as 5,10,20")
    parser.add_argument("--samplers", help="of --curve nfe, such as ddim,dpmpp_2m/log_snr")
    parser.add_argument("--inception-weights", metavar="FILE", help="a local copy of inception_v3's weights")
    parser.add_argument(
        "--dataset",
        help="the reference for an .npz, such as cifar10 or '{name: image_folder, folder: PATH}' (default: fashion_mnist)",
    )
    add_sampling(parser)


def execute(arguments: argparse.Namespace) -> None:
    """Results on standard output, and as JSON in the run's folder or beside the .npz."""
    from ddpm_lab.runtime import distributed
    from ddpm_lab.runtime.device import pick_device

    with distributed.processes(pick_device(arguments.device)):
        for option in ("samplers", "at"):
            if getattr(arguments, option) is not None and arguments.curve is None:
                raise BadInput(f"--{option}: the option is for --curve nfe, ema or guidance")
        if arguments.curve is None:
            _metrics(arguments)
        else:
            _curve(arguments)


def _metrics(arguments: argparse.Namespace) -> None:
    from ddpm_lab.reports.result_table import result_lines
    from ddpm_lab.runtime.console import say
    from ddpm_lab.runtime.launcher import is_main
    from ddpm_lab.runtime.signals import NotFinite
    from ddpm_lab.storage.json_text import write_json
    from ddpm_lab.storage.measurement import failures, plain

    path = Path(arguments.run)
    results, file = _of_npz(path, arguments) if path.suffix == ".npz" else _of_run(arguments)
    if not is_main():
        return
    for line in result_lines(results):
        print(line)
    write_json(file, plain(results))
    say(f"results: {file}")
    if why := failures(results):
        raise NotFinite(f"{arguments.run}: FID could not be measured: {'; '.join(why)}")


def _of_run(arguments: argparse.Namespace) -> tuple[list[Measurement], Path]:
    from ddpm_lab.inference.measuring import evaluate_run
    from ddpm_lab.inference.trained_run import Run

    if arguments.dataset is not None:
        raise BadInput("--dataset: a run is measured against the data that it was trained on; the option is for an .npz")
    run = Run(arguments.run, arguments.device, arguments.overrides)
    sampling, n = sampling_of(run, arguments), _number(run, arguments)
    choices = _extractors(arguments, run.experiment.evaluate.features)
    return evaluate_run(run, sampling, n, choices, extrapolate=arguments.extrapolate)


def _of_npz(path: Path, arguments: argparse.Namespace) -> tuple[list[Measurement], Path]:
    from ddpm_lab.inference.measuring import evaluate_npz
    from ddpm_lab.runtime.device import pick_device
    from registry.choice import Choice

    if arguments.overrides:
        raise BadInput(f"'{arguments.overrides[0]}': the images of an .npz exist already; overrides are for a run")
    for option in SAMPLING:
        if getattr(arguments, option) is not None:
            raise BadInput(f"--{option}: the images of an .npz exist already; the option is for a run")
    dataset = reference(arguments.dataset or PLAIN_DATA)
    choices, device = _extractors(arguments, (Choice(PLAIN_FEATURES, {}),)), pick_device(arguments.device)
    return evaluate_npz(path, arguments.n, dataset, choices, device, extrapolate=arguments.extrapolate)


def _curve(arguments: argparse.Namespace) -> None:
    from ddpm_lab.inference import curve_points
    from ddpm_lab.inference.measuring import evaluators_of_run
    from ddpm_lab.inference.trained_run import Run
    from ddpm_lab.reports import quality_curve
    from ddpm_lab.runtime.console import say
    from ddpm_lab.runtime.launcher import is_main

    for option in ("dataset", "extrapolate"):
        if getattr(arguments, option):
            raise BadInput(f"--{option}: a curve is measured by FID against the run's own data; leave it out")
    varied = {"nfe": "steps", "ema": "weights", "guidance": "guidance"}[arguments.curve]
    if getattr(arguments, varied) is not None:
        raise BadInput(f"--{varied}: that is the curve's x-axis; set its points by --at")
    if arguments.sampler is not None and arguments.samplers is not None:
        raise BadInput("--sampler: --samplers names them all; use one of the two")
    if Path(arguments.run).suffix == ".npz":
        raise BadInput(f"--curve: the images of {arguments.run} exist already; name a run")
    run = Run(arguments.run, arguments.device, arguments.overrides)
    samplers = arguments.samplers.split(",") if arguments.samplers else None
    found = curve_points.points(run, sampling_of(run, arguments), arguments.curve, samplers, arguments.at)
    ready, _ = evaluators_of_run(run, _extractors(arguments, run.experiment.evaluate.features))
    if not ready:
        raise BadInput("--features: none of the extractors is available; the lines above say why")
    rows = curve_points.measure_points(run, ready, found, arguments.curve, _number(run, arguments))
    if is_main():
        file = curve_points.file_of(run, arguments.curve)
        say(f"points: {file}")
        for number, evaluator in enumerate(ready):
            for line in quality_curve.lines(rows, arguments.curve, evaluator.name):
                print(line)
            picture = file.with_suffix(".png") if number == 0 else file.with_name(f"{file.stem}-{evaluator.name}.png")
            say(f"plot: {quality_curve.plot(rows, arguments.curve, evaluator.name, picture)}")


def _number(run: Run, arguments: argparse.Namespace) -> int:
    n: int = arguments.n or run.experiment.evaluate.n
    if n < 2:
        raise BadInput("-n: a distance between distributions needs two images or more")
    return n


def reference(text: str) -> Choice:
    """`cifar10`, or `{name: image_folder, folder: PATH}`, as in an experiment."""
    from ddpm_lab.config.overrides import value_of
    from registry.choice import read_choice
    from registry.plugins import REGISTRIES

    try:
        return read_choice(value_of(text), REGISTRIES["datasets"].check, "dataset")
    except BadInput as error:
        raise BadInput(f"--dataset: {error}") from None


def _extractors(arguments: argparse.Namespace, default: tuple[Choice, ...]) -> list[Choice]:
    from registry.choice import Choice
    from registry.plugins import REGISTRIES

    names = arguments.features.split(",") if arguments.features else None
    choices = [Choice(name, REGISTRIES["features"].check(name, {})) for name in names] if names else list(default)
    return with_inception(choices, arguments.inception_weights)


def with_inception(choices: list[Choice], weights: str | None) -> list[Choice]:
    """The extractors, that one with these weights where they are given."""
    from registry.choice import Choice
    from registry.plugins import REGISTRIES

    if weights is None:
        return choices
    inception = Choice("inception_v3", REGISTRIES["features"].check("inception_v3", {"weights": weights}))
    return [*(choice for choice in choices if choice.name != "inception_v3"), inception]
