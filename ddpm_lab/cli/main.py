"""The command line: `ddpm-lab run | sweep | sample | evaluate | compare | ema | export | sync | list | check`."""

from __future__ import annotations

import argparse
import math
import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from ddpm_lab.runtime import live_runs
from ddpm_lab.runtime.signals import BAD_INPUT, FAILURE, Interrupted
from ddpm_lab.runtime.terminal import lasting_stderr, without_hangup
from registry.errors import BadInput, kind_and_reason, printable, reason

RESULTS = Path("results")
LONGEST = 2000  # characters of an error, which may quote a value of any length


class _Parser(argparse.ArgumentParser):
    """One line on standard error for bad input, where argparse prints its usage too."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {printable(message)}; see `{self.prog} --help`\n")


class _Version(argparse.Action):
    """Prints the version of the lab; what is installed is asked only if somebody wants to know."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"ddpm-lab {version('ddpm_lab')}")
        parser.exit()


def _count(text: str) -> int:
    if not (text.isdecimal() and len(text) < 9 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text[:40]} is not a positive number below 100,000,000")
    return int(text)


def _numbers(text: str) -> list[float]:
    try:
        found = [float(number) for number in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(math.isfinite(number) and number >= 0 for number in found):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no list of numbers from 0 on; write them as 5,10,20")
    return found


def _parsers() -> dict[str, argparse.ArgumentParser]:
    parsers: dict[str, argparse.ArgumentParser] = {}

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        added = parsers[name] = _Parser(prog=f"ddpm-lab {name}", description=summary)
        added.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
        return added

    def device(added: argparse.ArgumentParser) -> None:
        added.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: the GPU where there is one)")

    def recipe(added: argparse.ArgumentParser) -> None:
        added.add_argument("experiment", help="a name in ./experiments, a YAML file, or a run's folder")
        added.add_argument(
            "overrides", nargs="*", default=[], metavar="key=value", help="optional; such as train.images=5000 loss.name=l2"
        )
        added.add_argument("--budget", help="a name in experiments/budgets (default: cpu)")
        device(added)

    def results(added: argparse.ArgumentParser) -> None:
        added.add_argument("--results", type=Path, default=RESULTS, help="where runs are kept (default: results)")

    run = command("run", "Train an experiment, sample, evaluate, report.")
    recipe(run)
    results(run)
    run.add_argument("--id", help="name the run, or go on with it (default: the sweep agent's, or a random one)")
    run.add_argument("--resume", action="store_true", help="go on with its newest unfinished run, if there is one")

    sweep = command("sweep", "Run a W&B sweep file on this machine, without an account.")
    sweep.add_argument("sweep", help="a name in ./experiments/sweeps, or a YAML file")
    sweep.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="optional; for all trials, such as train.images=5000"
    )
    sweep.add_argument("--budget", help="a name in experiments/budgets (default: cpu)")
    results(sweep)
    device(sweep)

    check = command("check", "Validate an experiment and say what it will take; train nothing.")
    recipe(check)
    check.add_argument("--full", action="store_true", help="also the whole experiment, every default filled in, as YAML")

    sample = command("sample", "Draw images from a run.")
    sample.add_argument("run", help="a run's folder, such as results/latest")
    sample.add_argument("-n", type=_count, default=64, metavar="N", help="how many (default: 64)")
    sample.add_argument(
        "--class", dest="label", metavar="K", help="of this class only, its name or number (default: all in turn)"
    )
    sample.add_argument("--out", type=Path, help="also the images as .npz (uint8 arr_0 [N, H, W, C], labels arr_1)")
    sample.add_argument(
        "--png", type=Path, help="the grid (default: beside --out, else in the run's folder; a grid drawn another way stays)"
    )

    evaluate = command("evaluate", "Measure the images of a run, or of an .npz from any program.")
    evaluate.add_argument("run", help="a run's folder, or an .npz with uint8 arr_0 [N, H, W, C]")
    evaluate.add_argument(
        "-n", type=_count, metavar="N", help="how many images (default: the experiment's, or all in the .npz)"
    )
    evaluate.add_argument("--features", help="extractors, such as fashion_cnn,inception_v3 (default: the experiment's)")
    evaluate.add_argument("--extrapolate", action="store_true", help="also the FID of infinitely many images")
    evaluate.add_argument(
        "--curve", choices=("nfe", "ema", "guidance"), help="FID against evaluations, averages of the weights, or guidance"
    )
    evaluate.add_argument("--at", type=_numbers, help="of the curve: steps, relative lengths, or scales, such as 5,10,20")
    evaluate.add_argument("--samplers", help="of --curve nfe, such as ddim,dpmpp_2m/log_snr")
    evaluate.add_argument("--inception-weights", metavar="FILE", help="a local copy of inception_v3's weights")
    evaluate.add_argument(
        "--dataset",
        help="the reference for an .npz, such as cifar10 or '{name: image_folder, folder: PATH}' (default: fashion_mnist)",
    )
    for added in (sample, evaluate):
        below = "optional; below sampling, such as sampling.clip=0.995"
        added.add_argument("overrides", nargs="*", default=[], metavar="key=value", help=below)
        added.add_argument("--sampler", help="such as ddim or ancestral, with its default options")
        added.add_argument("--steps", type=_count, help="reverse steps")
        added.add_argument("--seed", type=int, help="of the starting noise")
        added.add_argument("--guidance", type=float, help="scale of the run's guidance, such as the classifier-free one")
        added.add_argument("--weights", help="which weights: ema, raw, ema_2 ..., or what `ema` made")
        device(added)

    comparing = command("compare", "Rank runs and .npz files by what was measured of them, if it was measured alike.")
    comparing.add_argument("runs", nargs="+", metavar="RUN", help="runs' folders, or .npz files that were evaluated")
    comparing.add_argument("--metric", default="FID", help="such as KID or recall (default: FID)")
    comparing.add_argument("--features", help="values in these features only, such as fashion_cnn")
    comparing.add_argument("-n", type=_count, metavar="N", help="values over so many images only")

    exporting = command("export", "Write a run's network to a folder of its own: safetensors, a model card, for diffusers too.")
    exporting.add_argument("run", help="a run's folder, such as results/latest")
    exporting.add_argument("directory", type=Path, help="a new folder")
    exporting.add_argument("--weights", help="which weights: ema, raw, ema_2 ..., or what `ema` made")

    ema = command("ema", "Make averages of other lengths from a run's snapshots of power-function averages.")
    ema.add_argument("run", help="a run's folder, such as results/latest")
    ema.add_argument("--std", type=float, nargs="+", required=True, help="relative standard deviations, such as 0.08")

    sync = command("sync", "Send W&B what it lacks of a run: rows, pictures, result, weights.")
    sync.add_argument("run", help="a run's folder, such as results/latest")

    listing = command("list", "Show all parts with their options, or the experiments.")
    listing.add_argument("shelf", nargs="?", help="only this category, such as losses; or experiments")
    return parsers


def _parse(argv: list[str]) -> argparse.Namespace:
    """Each command has a parser of its own, because argparse's sub-parsers cannot take options among the overrides."""
    parsers = _parsers()
    summary = "\n".join(f"  {name:<10} {parser.description}" for name, parser in parsers.items())
    top = _Parser(
        prog="ddpm-lab", formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"Train and compare denoising diffusion models of images.\n\ncommands:\n{summary}",
        epilog="`ddpm-lab COMMAND --help` shows the options of a command",
    )  # fmt: skip
    top.add_argument("--version", action=_Version, nargs=0, help="show the version of the lab")
    top.add_argument("command", choices=parsers, metavar="COMMAND", help="one of the above")
    command = top.parse_args(argv[:1]).command
    arguments = parsers[command].parse_intermixed_args(argv[1:])
    arguments.command = command
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit status: 0, 1 after a failure, 2 for bad input, 128 + signal after an interrupt."""
    with lasting_stderr():
        return _main(sys.argv[1:] if argv is None else argv)


def _main(argv: list[str]) -> int:
    arguments = _parse(argv)
    try:
        _dispatch(arguments)
        return 0
    except Interrupted as interruption:
        return interruption.status
    except KeyboardInterrupt:
        print("ddpm-lab: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return FAILURE
    except BaseException as error:  # a plugin may die of anything; a command that does not come to its end has failed
        if arguments.debug:
            traceback.print_exc()
        known = isinstance(error, BadInput)
        text = reason(error) if known else _blamed(error)
        text = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
        # In several processes each speaks for itself, because one may fail where the others wait for it.
        who = f" in process {os.environ['RANK']}" if "RANK" in os.environ else ""
        print(f"ddpm-lab: error{who}: {text}", file=sys.stderr)
        return BAD_INPUT if known else FAILURE


def _blamed(error: BaseException) -> str:
    """What happened, and in which line of which plugin where it was one."""
    from registry.blame import place_of

    where = place_of(error)
    return f"{where}: {kind_and_reason(error)}" if where else kind_and_reason(error)


def _dispatch(arguments: argparse.Namespace) -> None:
    if arguments.command in {"run", "sweep"}:
        # Before torch, which takes a second or two: runs that start together then know of each other when they choose threads.
        with live_runs.announced():
            _execute(arguments)
    else:
        _execute(arguments)


def _execute(arguments: argparse.Namespace) -> None:
    # Imported by command: `--help` and a typing error need no torch.
    if arguments.command == "list":
        from ddpm_lab.cli.listing import lines

        print("\n".join(lines(arguments.shelf)))
    elif arguments.command == "check":
        from ddpm_lab.config.load import load_recipe
        from ddpm_lab.runner import preflight as check

        loaded = load_recipe(arguments.experiment, arguments.overrides, arguments.budget)
        for line in check.lines(loaded, arguments.device, arguments.full):
            print(line)
    elif arguments.command == "compare":
        from ddpm_lab.reports import ranking as compare

        print("\n".join(compare.lines(arguments.runs, arguments.metric, arguments.features, arguments.n)))
    elif arguments.command == "run":
        _run(arguments)
    elif arguments.command == "sweep":
        from ddpm_lab.sweeps.study import Sweep

        with without_hangup():
            Sweep(arguments.sweep, arguments.overrides, arguments.budget, arguments.results, arguments.device).execute()
    elif arguments.command == "ema":
        from ddpm_lab.cli.commands import ema

        ema(arguments)
    elif arguments.command == "export":
        from ddpm_lab.cli.commands import export

        export(arguments)
    elif arguments.command == "sync":
        from ddpm_lab.tracking.tracker import sync

        sync(arguments.run)
    else:
        from ddpm_lab.cli import commands
        from ddpm_lab.runtime import distributed
        from ddpm_lab.runtime.device import pick_device

        with distributed.processes(pick_device(arguments.device)):
            {"sample": commands.sample, "evaluate": commands.evaluate}[arguments.command](arguments)


def _run(arguments: argparse.Namespace) -> None:
    from ddpm_lab.config.load import load_recipe
    from ddpm_lab.runner.run import Execution, require_same
    from ddpm_lab.runtime import distributed
    from ddpm_lab.runtime.console import say
    from ddpm_lab.runtime.device import pick_device
    from ddpm_lab.runtime.launcher import restarted
    from ddpm_lab.storage.names import require_id
    from ddpm_lab.storage.run_folder import with_id

    recipe = load_recipe(arguments.experiment, arguments.overrides, arguments.budget)
    # A sweep's agent names the run; it hands a trial that was preempted out again under the same name.
    option, run_id = "--id", arguments.id
    if run_id is None and "WANDB_SWEEP_ID" in os.environ:
        option, run_id = "WANDB_RUN_ID", os.environ.get("WANDB_RUN_ID") or None
    if run_id is not None:
        require_id(run_id, option)
    if run_id and (done := with_id(arguments.results, recipe.name, run_id)) and done.finished:
        require_same(done, recipe, "--id")
        say(f"{done.path} has come to its end already; nothing to do")
        return
    device = pick_device(arguments.device)
    with without_hangup(), distributed.processes(device):
        Execution(recipe, arguments.results, device, arguments.resume or restarted(), run_id).execute()
