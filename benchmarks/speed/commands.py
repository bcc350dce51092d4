"""Whole commands: how long they take to start, and how much memory they hold."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.timing import in_turn, peak_of, rate, spread

ROUNDS = 5


def _seconds_of(*command: str) -> Callable[[], float]:
    return lambda: 1 / rate(partial(subprocess.run, command, check=True, capture_output=True), 1)()


def start(found: dict[str, Any], _: torch.device) -> None:
    """Seconds of whole processes."""
    lab = os.fspath(Path(sys.executable).with_name("ddpm-lab"))
    tasks = {
        "import torch": _seconds_of(sys.executable, "-c", "import torch"),
        "import ddpm_lab": _seconds_of(sys.executable, "-c", "import ddpm_lab"),
        "ddpm-lab list": _seconds_of(lab, "list"),
    }
    found["import"] = {name: spread(values) for name, values in in_turn(tasks, ROUNDS).items()}


def memory(found: dict[str, Any], _: torch.device) -> None:
    """Peak GB of whole commands."""
    lab = os.fspath(Path(sys.executable).with_name("ddpm-lab"))
    with tempfile.TemporaryDirectory() as results:
        short = ["train.images=12800", "evaluate.features=[]", "evaluate.every=null", "track=none", "--results", results]
        run = f"{results}/latest"
        sampling = ["sampling.steps=2", "sampling.sampler=ddim"]
        found["memory"] = {
            "training, batch 128": peak_of(lab, "run", "cosine_l2", "train.batch=128", *short),
            "sampling and FID, N = 1,000": peak_of(lab, "evaluate", run, *sampling, "--features", "fashion_cnn", "-n", "1000"),
            "sampling and FID, N = 10,000": peak_of(
                lab, "evaluate", run, *sampling, "--features", "fashion_cnn", "-n", "10000"
            ),
        }
