"""Decide whether B is better than A, on as many pairs of runs as it takes."""

from __future__ import annotations

import argparse
from functools import partial

from ddpm_lab.cli.arguments import add, add_overrides, between, count, minutes
from ddpm_lab.runtime import live_runs
from ddpm_lab.runtime.terminal import without_hangup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab verdict A B`."""
    parser.add_argument("a", metavar="A", help="an experiment, with overrides in the same word: 'cosine_l2 loss=huber'")
    parser.add_argument("b", metavar="B", help="another one")
    add_overrides(parser, "for both, such as train.images=50000")
    add(parser, "--budget")
    parser.add_argument("--metric", help="by which to decide, such as KID/fashion_cnn (default: FID, in the first extractor)")
    parser.add_argument(
        "--margin", type=partial(between, 0, 10), default=0.15, help="what does not matter (default: 0.15, which is 15 %%)"
    )
    parser.add_argument(
        "--alpha", type=partial(between, 1e-6, 0.5), default=0.05, help="the probability of a wrong verdict (default: 0.05)"
    )
    parser.add_argument(
        "--pairs",
        type=_pairs,
        default=10,
        help="pairs of runs, at most (default: 10, which leave nearly half of equals undecided; 20 few)",
    )
    parser.add_argument("--minutes", type=minutes, help="begin no pair that would last beyond it (default: no limit)")
    add(parser, "--results", "--device", "--json")


def execute(arguments: argparse.Namespace) -> None:
    """Run what is left of it; the same command resumes it, however it was stopped."""
    with live_runs.announced(), without_hangup():  # before torch
        _execute(arguments)


def _execute(arguments: argparse.Namespace) -> None:
    from ddpm_lab.storage.json_text import to_json
    from ddpm_lab.storage.measurement import plain
    from ddpm_lab.studies import verdict_file
    from ddpm_lab.studies.question import ask
    from ddpm_lab.studies.verdict import decide

    given = arguments.metric, arguments.margin, arguments.alpha
    question = ask(arguments.a, arguments.b, arguments.overrides, arguments.budget, *given)
    results = arguments.results
    verdict = decide(question, results, arguments.device, arguments.pairs, arguments.minutes)
    if arguments.json:
        print(to_json(plain(verdict) | {"verdicts": len(verdict_file.read(results))}, indent=2))
    else:
        print("\n".join([*verdict.lines(), "", verdict_file.place(results, verdict.question)]))


def _pairs(text: str) -> int:
    pairs = count(text)
    if not 2 <= pairs <= 1000:
        raise argparse.ArgumentTypeError(f"{text[:40]} is not a number from 2 to 1000; one pair tells nothing")
    return pairs
