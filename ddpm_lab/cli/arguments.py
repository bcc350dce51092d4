"""How arguments are read, and those that several commands share. No torch here: `--help` and a typo need none."""

from __future__ import annotations

import argparse
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ddpm_lab.runtime.signals import BAD_INPUT
from registry.errors import printable

if TYPE_CHECKING:
    from ddpm_lab.config.schema import Sampling
    from ddpm_lab.inference.trained_run import Run

SAMPLING = ("sampler", "steps", "seed", "guidance", "weights")  # the options that change a run's sampling

# What several commands share: the argument, and what argparse is told of it.
SHARED: dict[str, dict[str, Any]] = {
    "run": {"help": "a run's folder, such as results/latest, or a name that `list models` shows"},
    "--device": {"help": "cpu, cuda, cuda:1 ..., xpu, mps (default: a GPU where there is one)"},
    "--results": {"type": Path, "default": Path("results"), "help": "where runs are kept (default: results)"},
    "--json": {"action": "store_true", "help": "print JSON"},
    "--weights": {"help": "which weights: ema, raw, ema_2 ..., or what `ema` made"},
    "--budget": {"help": "a name in experiments/budgets (default: cpu)"},
}


class Parser(argparse.ArgumentParser):
    """One line on standard error for bad input, where argparse prints its usage too."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {printable(message)}; see `{self.prog} --help`\n")


class Version(argparse.Action):
    """Prints the version of the lab; importlib.metadata is read only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"ddpm-lab {version('ddpm_lab')}")
        parser.exit()


def count(text: str) -> int:
    """A positive whole number."""
    if not (text.isdecimal() and len(text) < 9 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text[:40]} is not a positive number below 100,000,000")
    return int(text)


def numbers(text: str) -> list[float]:
    """`5,10,20`: finite numbers, none below 0."""
    try:
        found = [float(number) for number in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(math.isfinite(number) and number >= 0 for number in found):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a list of numbers from 0 on; write them as 5,10,20")
    return found


def between(least: float, most: float, text: str) -> float:
    """A finite number, neither below `least` nor above `most`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most or math.isinf(value):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from {least:g} to {most:g}")
    return value


minutes = partial(between, 0, math.inf)  # a limit of time


def add(parser: argparse.ArgumentParser, *names: str) -> None:
    """Shared arguments, in that order."""
    for name in names:
        parser.add_argument(name, **SHARED[name])


def add_overrides(parser: argparse.ArgumentParser, about: str) -> None:
    """Overrides of an experiment."""
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help=f"optional; {about}")


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """An experiment, its budget and overrides."""
    parser.add_argument("experiment", help="a name that `list experiments` shows, a YAML file, or a run's folder")
    add_overrides(parser, "such as train.images=5000 loss.name=l2")
    add(parser, "--budget", "--device")


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Overrides of a run's sampling."""
    add_overrides(parser, "below sampling, such as sampling.clip=0.995")
    parser.add_argument("--sampler", help="such as ddim or ancestral, with its default options")
    parser.add_argument("--steps", type=count, help="reverse steps")
    parser.add_argument("--seed", type=int, help="of the starting noise")
    parser.add_argument("--guidance", type=float, help="scale of the run's guidance, such as the classifier-free one")
    add(parser, "--weights", "--device")


def sampling_of(run: Run, arguments: argparse.Namespace) -> Sampling:
    """The run's own sampling, with the overrides of the command line."""
    from ddpm_lab.inference.sampling_overrides import changed

    return changed(run, run.experiment.sampling, **{option: getattr(arguments, option) for option in SAMPLING})
