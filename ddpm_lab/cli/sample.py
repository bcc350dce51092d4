"""Sample images from a run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ddpm_lab.cli.arguments import add, add_sampling, count, sampling_of
from registry.errors import BadInput

GRID = 256  # images in a grid, at most


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab sample RUN`."""
    add(parser, "run")
    parser.add_argument("-n", type=count, default=64, metavar="N", help="how many (default: 64)")
    parser.add_argument(
        "--class", dest="label", metavar="K", help="of this class only, its name or number (default: all in turn)"
    )
    parser.add_argument("--out", type=Path, help="also the images as .npz (uint8 arr_0 [N, H, W, C], labels arr_1)")
    parser.add_argument(
        "--png",
        type=Path,
        help="the grid (default: beside --out, else in the run's folder; a grid that was sampled otherwise stays)",
    )
    add_sampling(parser)


def execute(arguments: argparse.Namespace) -> None:
    """A PNG grid, and an .npz with --out."""
    from ddpm_lab.runtime import distributed
    from ddpm_lab.runtime.device import pick_device

    with distributed.processes(pick_device(arguments.device)):
        _execute(arguments)


def _execute(arguments: argparse.Namespace) -> None:
    from ddpm_lab.inference.trained_run import Run, class_number
    from ddpm_lab.runtime.console import say
    from ddpm_lab.runtime.launcher import is_main
    from ddpm_lab.storage.images import PLANE, save_grid, unlike, write_images

    run = Run(arguments.run, arguments.device, arguments.overrides)
    if arguments.png is None and arguments.out is None:
        run.folder = run.folder.writable()
    sampling = sampling_of(run, arguments)
    for option, suffix in (("out", ".npz"), ("png", ".png")):
        if (path := getattr(arguments, option)) is not None:
            _require_writable(path, f"--{option}", suffix)
    chosen = None if arguments.label is None else class_number(arguments.label, run.shape.class_names)
    images, labels = run.images(arguments.n, sampling, None if chosen is None else [chosen])
    if not is_main():
        return
    generation = run.generation(sampling, sampling.seed)
    if arguments.out is not None:
        write_images(arguments.out, images, labels, {"run": run.folder.id, **generation})
        say(f"images: {arguments.out}")
    about = json.dumps({"run": run.folder.id, **generation, "n": arguments.n, "class": "all" if chosen is None else chosen})
    png = arguments.png or unlike(arguments.out.with_suffix(".png") if arguments.out else run.folder.path / "sample.png", about)
    shown = images if run.shape.image_shape == PLANE else images[:GRID]
    save_grid(png, shown, about=about)
    say(f"grid: {png}" + (f" (the first {GRID})" if arguments.n > len(shown) else ""))


def _require_writable(file: Path, option: str, suffix: str) -> None:
    """Checked before an hour of sampling, not after."""
    from ddpm_lab.storage.files import write_whole

    if file.suffix != suffix:
        raise BadInput(f"{option}: '{file}' does not end in {suffix}")
    try:
        if file.exists() and not file.is_file():
            raise BadInput(f"{option}: {file} exists and is not a file; name another place")
        write_whole(file.with_name(f"{file.name}.trial"), lambda path: path.touch())
        file.with_name(f"{file.name}.trial").unlink()
    except OSError as error:
        raise BadInput(f"{option}: {file} cannot be written ({error.strerror}); name a place that can") from None
