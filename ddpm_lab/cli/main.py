"""The command line, `ddpm-lab COMMAND`: each command is a module of this package, and its first line is its summary."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from typing import Protocol

from ddpm_lab.cli import (
    bench,
    check,
    compare,
    ema,
    evaluate,
    explain,
    export,
    play,
    run,
    sample,
    sweep,
    sync,
    verdict,
    verdicts,
)
from ddpm_lab.cli import list as list_
from ddpm_lab.cli.arguments import Parser, Version
from ddpm_lab.runtime.signals import BAD_INPUT, FAILURE, Interrupted
from ddpm_lab.runtime.terminal import lasting_stderr
from registry.errors import BadInput, kind_and_reason, reason

LONGEST = 2000  # characters of an error, which may quote a value of any length


class Command(Protocol):
    """A module of a command. It imports torch only when it is executed: `--help` and a typo need none."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def execute(self, arguments: argparse.Namespace) -> None: ...


COMMANDS: dict[str, Command] = {
    "run": run, "sweep": sweep, "bench": bench, "verdict": verdict, "verdicts": verdicts, "check": check, "sample": sample,
    "evaluate": evaluate, "compare": compare, "explain": explain, "export": export, "play": play, "ema": ema, "sync": sync,
    "list": list_,
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit status: 0, 1 after a failure, 2 for bad input, 128 + signal after an interrupt."""
    with lasting_stderr():
        return _main(sys.argv[1:] if argv is None else argv)


def _parse(argv: list[str]) -> tuple[Command, argparse.Namespace]:
    """Each command has a parser of its own, because argparse's sub-parsers cannot take options among the overrides."""
    summary = "\n".join(f"  {name:<10} {command.__doc__}" for name, command in COMMANDS.items())
    top = Parser(
        prog="ddpm-lab", formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"Train and compare denoising diffusion models of images.\n\ncommands:\n{summary}",
        epilog="`ddpm-lab COMMAND --help` shows the options of a command",
    )  # fmt: skip
    top.add_argument("--version", action=Version, nargs=0, help="show the version of the lab")
    top.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the above")
    name = top.parse_args(argv[:1]).command
    parser = Parser(prog=f"ddpm-lab {name}", description=COMMANDS[name].__doc__)
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    COMMANDS[name].add_arguments(parser)
    return COMMANDS[name], parser.parse_intermixed_args(argv[1:])


def _main(argv: list[str]) -> int:
    command, arguments = _parse(argv)
    try:
        command.execute(arguments)
        return 0
    except Interrupted as interruption:
        return interruption.status
    except KeyboardInterrupt:
        print("ddpm-lab: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return FAILURE
    except BaseException as error:  # a plugin may die of anything; a command that does not finish has failed
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
