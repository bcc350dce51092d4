"""All metrics of a run's images, or of those in an .npz, and the file that keeps them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from ddpm_lab.config.schema import Sampling
from ddpm_lab.diffusion.build import build_data, build_images
from ddpm_lab.diffusion.model import DataShape
from ddpm_lab.evaluation.evaluate import evaluate_images, evaluators
from ddpm_lab.evaluation.evaluator import BATCH, Evaluator
from ddpm_lab.inference.trained_run import Run
from ddpm_lab.runtime import distributed
from ddpm_lab.storage.measurement import Generation, Measurement
from registry.choice import Choice
from registry.datasets import ImageSet
from registry.datasets.npz_reader import read_images, read_made_by
from registry.errors import BadInput
from registry.metrics import METRICS


def data_of_run(run: Run) -> ImageSet:
    """The data that it was trained on.

    Raises:
        BadInput: the data set has changed.
    """
    with distributed.first_on_each_machine():
        data = build_data(run.experiment)
    if DataShape.of(data).train_hash != run.shape.train_hash:
        raise BadInput(f"{run.folder.data}: the data set '{data.name}' is no longer the one that this run was trained on")
    return data


def evaluators_of_run(
    run: Run, extractors: Sequence[Choice], *, extrapolate: bool = False
) -> tuple[list[Evaluator], list[Measurement]]:
    """Those that measure against the data that it was trained on, and records that say which are missing.

    Raises:
        BadInput: the data set has changed.
    """
    return evaluators(extractors, data_of_run(run), run.device, _wanted(extrapolate) | run.experiment.evaluate.wanted)


def evaluate_run(
    run: Run, sampling: Sampling, n: int, extractors: Sequence[Choice], *, extrapolate: bool
) -> tuple[list[Measurement], Path]:
    """The metrics of `n` images sampled so, and a file in its folder, or in the copy of a model that ships."""
    run.folder = run.folder.writable()
    sampler = run.sampler(sampling)
    ready, missing = evaluators_of_run(run, extractors, extrapolate=extrapolate)
    made_by, labels = run.generation(sampling, sampling.seed), sampler.labels(n)
    batches = sampler.images(n, sampling.seed, sampling.batch, labels)
    results = evaluate_images(ready, batches, n, made_by, labels=labels, sampler=sampler)
    # One file for each way of sampling and of measuring, so that a second evaluation does not overwrite the first.
    measured = [evaluator.name for evaluator in ready], extrapolate
    digest = hashlib.sha256(json.dumps([made_by, *measured]).encode()).hexdigest()[:8]
    return [*results, *missing], run.folder.path / f"evaluation-n{n}-{digest}.json"


def evaluate_npz(
    path: Path, n: int | None, dataset: Choice, extractors: Sequence[Choice], device: torch.device, *, extrapolate: bool
) -> tuple[list[Measurement], Path]:
    """The metrics of the first `n` images in a file, or of all, against the data set; and a file beside it.

    Raises:
        BadInput: it holds fewer, or only one; or the file or the data set cannot be read.
    """
    images = read_images(path)
    n = n or len(images)
    if n > len(images):
        raise BadInput(f"{path}: holds {len(images)} images, fewer than the {n} asked for")
    if n < 2:
        raise BadInput(f"{path}: a distance between distributions needs two images or more")
    with distributed.first_on_each_machine():
        data = build_images(dataset)
    ready, missing = evaluators(extractors, data, device, _wanted(extrapolate))
    batches = ((start, images[:n][start : start + BATCH]) for start in distributed.dealt(range(0, n, BATCH)))
    made_by: Generation = {"source": path.name, **(read_made_by(path) or {})}
    results = evaluate_images(ready, batches, n, made_by)
    return [*results, *missing], path.with_suffix(".evaluation.json")


def _wanted(extrapolate: bool) -> frozenset[str]:
    return METRICS.usual("extrapolate" if extrapolate else "")
