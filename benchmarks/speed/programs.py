"""The lab and its peers: images/s in training and sampling, all programs in turn, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.common.timing import convolution, fitted, in_turn, product, rate, ratio, spread
from benchmarks.speed.contender import Contender
from benchmarks.speed.plot import EVALUATIONS

ROUNDS = 5
# Steps for each turn: about ten seconds, but for the lab and its bare loop, whose turn has to hold a whole checkpoint.
STEPS = {
    "lab": 480, "bare": 480, "lab_annotated": 24, "annotated": 6, "lucidrains": 16, "diffusers": 24, "smalldiffusion": 3,
}  # fmt: skip
SAMPLES = 64


def training(found: dict[str, Any], device: torch.device) -> None:
    """All programs in turn, and what the machine can do at most."""
    found["ceilings"] = _ceilings(device)
    found["programs"], growth = _programs()
    found["growth"] |= growth
    programs = found["programs"]
    for program in programs.values():
        ceiling = found["ceilings"][f"convolution, {program['precision']}"]["median"]
        program["gflops"] = 3 * program["flops"] * program["training"]["median"] / 1e9
        program["share"] = program["gflops"] / ceiling
    rates = {name: program["training"]["values"] for name, program in programs.items()}
    found["ratios"] = {
        "the annotated network in the lab against the published loop": ratio(rates["lab_annotated"], rates["annotated"]),
        "the lab's loop against the bare loop": ratio(rates["lab"], rates["bare"]),
    }


def _ceilings(device: torch.device) -> dict[str, Any]:
    """GFLOP/s of a convolution and a matrix product, forward and backward."""
    tasks = {}
    for precision in ("bf16", "fp32"):
        for name, make in (("convolution", convolution), ("product", product)):
            work, operations = make(precision, device)
            tasks[f"{name}, {precision}"] = rate(partial(_repeat, work, 5), int(5 * operations / 1e9))
    return {name: spread(values) for name, values in in_turn(tasks, ROUNDS).items()}


def _repeat(work: Callable[[], None], times: int) -> None:
    for _ in range(times):
        work()


def _programs() -> tuple[dict[str, Any], dict[str, Any]]:
    """Training and sampling, all programs in turn, each in its own process; then how the lab's time grows."""
    contenders = {name: Contender(name) for name in STEPS}

    def training(name: str) -> float:
        done = contenders[name]("train", STEPS[name])
        return STEPS[name] * contenders[name].about["batch"] / done["seconds"]

    def sampling(name: str) -> float:
        return SAMPLES / contenders[name]("sample", SAMPLES, EVALUATIONS)["seconds"]

    rates = in_turn({name: partial(training, name) for name in contenders}, ROUNDS)
    sampled = in_turn({name: partial(sampling, name) for name in contenders if name != "bare"}, ROUNDS)
    growth = _growth(contenders["lab"])
    programs = {
        name: contender.about | {
            "training": spread(rates[name]) | {"values": rates[name]},
            "sampling": spread(sampled[name]) if name in sampled else None,
            "gigabytes": contender("memory")["gigabytes"],
        }
        for name, contender in contenders.items()
    }  # fmt: skip
    for contender in contenders.values():
        contender.close()
    return programs, growth


def _growth(lab: Contender) -> dict[str, Any]:
    """Seconds against the amount, and the exponent that fits."""

    def seconds(order: str, *numbers: int) -> Callable[[], float]:
        return lambda: lab(order, *numbers)["seconds"]

    images = {steps * 64: seconds("train", steps) for steps in (30, 60, 120, 240)}
    counts = {count: seconds("sample", count, 10) for count in (128, 256, 512, 1024)}
    steps = {number: seconds("sample", 256, number) for number in (10, 20, 40, 80)}
    return {
        "training against images": fitted(images),
        "sampling against N": fitted(counts),
        "sampling against steps": fitted(steps),
    }
