"""Explain why two values differ: what can differ is changed, alone and in pairs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ddpm_lab.cli.arguments import add, count, minutes
from ddpm_lab.cli.evaluate import PLAIN_DATA, PLAIN_FEATURES, reference, with_inception
from ddpm_lab.runtime import live_runs
from registry.errors import BadInput

if TYPE_CHECKING:
    from registry.choice import Choice
    from registry.datasets import ImageSet

EXAMPLES = "a run's folder, an evaluation-*.json in it, an .npz, or a claimed value such as FID=3.4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab explain X Y`."""
    parser.add_argument("x", metavar="X", help=EXAMPLES)
    parser.add_argument("y", metavar="Y", help="another of these")
    parser.add_argument(
        "words", nargs="*", metavar="key=value", help="what is said of a claimed value, such as n=5000 weights=raw"
    )
    parser.add_argument(
        "-n", type=count, metavar="N", help="compare both with so many images instead of those of their records"
    )
    parser.add_argument("--minutes", type=minutes, help="begin no evaluation that would last beyond it (default: no limit)")
    parser.add_argument(
        "--features", help="the values in these features, such as fashion_cnn (default: the first that were measured)"
    )
    parser.add_argument("--inception-weights", metavar="FILE", help="a local copy of inception_v3's weights")
    parser.add_argument("--dataset", help="the reference for an .npz, as for evaluate (default: fashion_mnist)")
    add(parser, "--device", "--json")


def execute(arguments: argparse.Namespace) -> None:
    """Compute, then print what explains the gap."""
    with live_runs.announced():  # before torch
        _execute(arguments)


def _execute(arguments: argparse.Namespace) -> None:
    from ddpm_lab.diffusion.build import build_images
    from ddpm_lab.runtime.device import pick_device
    from ddpm_lab.storage.json_text import to_json
    from ddpm_lab.studies.explain import subject, table
    from ddpm_lab.studies.explain.explain import Search
    from registry.choice import Choice
    from registry.features import FEATURES

    x = subject.read(arguments.x, arguments.device, arguments.features, None)
    y = subject.read(arguments.y, arguments.device, arguments.features, x.extractor)
    x, y = subject.with_words(x, y, arguments.words)
    if arguments.dataset is not None and (run := next((one for one in (x, y) if one.run), None)):
        raise BadInput(f"--dataset: {run.name} is measured against the data that it was trained on; the option is for an .npz")
    known = {choice.name: choice for one in (y, x) if one.run for choice in one.run.experiment.evaluate.features}

    def choose(name: str) -> Choice:
        plain = known.get(name) or Choice(name, FEATURES.check(name, {}))
        return next(one for one in with_inception([plain], arguments.inception_weights) if one.name == name)

    def dataset() -> ImageSet:
        return build_images(reference(arguments.dataset or PLAIN_DATA))

    device, features = pick_device(arguments.device), arguments.features or PLAIN_FEATURES
    found = Search(x, y, dataset, choose, features, device, arguments.n, arguments.minutes).execute()
    print(to_json(table.plain_explanation(found), indent=2) if arguments.json else "\n".join(table.lines(found)))
