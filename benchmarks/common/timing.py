"""How the benchmarks measure: in turn, medians with their spread, fitted exponents, and what the machine can do at most."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ddpm_lab.runtime.device import autocast


def in_turn(tasks: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each task returns, round after round, so that a slow moment meets all alike; a first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(rounds + 1):
        for name, task in tasks.items():
            value = task()
            if turn:
                found[name].append(value)
                print(f"round {turn} of {rounds}: {name} {value:.4g}", flush=True)
    return found


def rate(work: Callable[[], object], amount: int) -> Callable[[], float]:
    """A task that gives the amount done in a second."""

    def measured() -> float:
        start = time.perf_counter()
        work()
        return amount / (time.perf_counter() - start)

    return measured


def spread(values: list[float]) -> dict[str, float]:
    """Median, least, most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "rounds": len(values)}


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Of the medians."""
    return statistics.median(ours) / statistics.median(theirs)


def exponent(amounts: list[int], seconds: list[float]) -> float:
    """b of the fit seconds = a amount^b: 1 where the time is proportional to the amount."""
    return float(np.polyfit(np.log(amounts), np.log(seconds), 1)[0])


def fitted(tasks: dict[int, Callable[[], float]]) -> dict[str, Any]:
    """Median seconds of the tasks, by their amounts, and the exponent that fits them."""
    values = in_turn({str(amount): task for amount, task in tasks.items()}, 3)
    seconds = [spread(found)["median"] for found in values.values()]
    return {"amounts": list(tasks), "seconds": seconds, "exponent": exponent(list(tasks), seconds)}


def forward_flops(network: nn.Module, inputs: tuple[Any, ...], images: int) -> float:
    """Operations (two for each multiply-add) of a forward pass, for each image."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    return counter.get_total_flops() / images


# A child counts what its parent held when it was forked, so a small process stands between.
_BETWEEN = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20)
sys.exit(done.returncode)
"""


def peak_of(*command: str) -> float:
    """GB that a command holds at most."""
    done = subprocess.run([sys.executable, "-c", _BETWEEN, *command], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: it failed; its own message is above")
    return float(done.stdout)


def convolution(precision: str, device: torch.device, width: int = 64, batch: int = 128) -> tuple[Callable[[], None], float]:
    """Forward and backward of a 3 x 3 convolution on 28 x 28 images, and its operations."""
    layer = nn.Conv2d(width, width, 3, padding=1).to(device)
    x = torch.randn(batch, width, 28, 28, device=device, requires_grad=True)

    def work() -> None:
        with autocast(precision, device):
            y = layer(x)
        y.backward(torch.ones_like(y))

    return work, 3 * 2 * batch * 28 * 28 * 9 * width * width


def product(precision: str, device: torch.device, side: int = 2048) -> tuple[Callable[[], None], float]:
    """Forward and backward of a product of square matrices, and its operations."""
    a = torch.randn(side, side, device=device, requires_grad=True)
    b = torch.randn(side, side, device=device, requires_grad=True)

    def work() -> None:
        with autocast(precision, device):
            y = F.linear(a, b)
        y.backward(torch.ones_like(y))

    return work, 3 * 2 * side**3
