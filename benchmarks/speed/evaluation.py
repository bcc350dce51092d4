"""Evaluation of images on the disk: the lab against torch-fidelity, and how the time grows with their number."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.timing import fitted, in_turn, rate, ratio, spread
from benchmarks.peers import fashion_mnist
from benchmarks.speed.fidelity import fidelity_distance
from ddpm_lab.evaluation.accumulator import numbered
from ddpm_lab.evaluation.evaluator import BATCH, Evaluator, measure
from ddpm_lab.storage.images import write_images
from registry.choice import Choice
from registry.datasets.npz_reader import read_images
from registry.metrics.fid import frechet

ROUNDS = 5
IMAGES = 10_000


def evaluation(found: dict[str, Any], device: torch.device) -> None:
    """10,000 images on the disk: the lab against torch-fidelity, same extractor, both with the reference in their cache."""
    data = fashion_mnist()
    evaluator = Evaluator(Choice("fashion_cnn", {}), data, device)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.npz"
        write_images(file, data.test.rows(torch.arange(IMAGES)), None, {"source": "held-out images"})

        def ours() -> float:
            fresh = Evaluator(Choice("fashion_cnn", {}), data, device)
            images = read_images(file)
            measured = measure([fresh], numbered(images.split(BATCH)), len(images), "evaluating", passing=True)[0]
            return frechet(fresh.reference.moments, measured.moments)

        def theirs() -> float:
            return fidelity_distance(read_images(file), data.train.rows(torch.arange(60_000)), f"{folder}/cache", BATCH)

        values = {"ddpm_lab": ours(), "torch-fidelity": theirs()}
        rates = in_turn({"ddpm_lab": rate(ours, IMAGES), "torch-fidelity": rate(theirs, IMAGES)}, ROUNDS)

    def seconds_of(n: int) -> float:
        batches = numbered(data.train.rows(torch.arange(n)).split(BATCH))
        start = time.perf_counter()
        frechet(evaluator.reference.moments, measure([evaluator], batches, n, "", passing=True)[0].moments)
        return time.perf_counter() - start

    found["growth"]["FID against N"] = fitted({n: partial(seconds_of, n) for n in (5_000, 10_000, 20_000, 40_000)})
    found["evaluation"] = {
        "values": values, "rates": {name: spread(one) for name, one in rates.items()},
        "ratio": ratio(rates["ddpm_lab"], rates["torch-fidelity"]),
    }  # fmt: skip
