"""The calls of the Python API: train, load, compare, verdict, picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from ddpm_lab.api.call import checked, refuse_unknown, require_count, require_overrides
from ddpm_lab.api.run import Run
from ddpm_lab.config.load import load_recipe
from ddpm_lab.config.schema import Experiment
from ddpm_lab.reports.comparison import Ranking, rank
from ddpm_lab.runner.run import train as train_to_its_end
from ddpm_lab.runtime import live_runs
from ddpm_lab.storage import images as pictures
from ddpm_lab.studies.question import ask
from ddpm_lab.studies.verdict import decide
from ddpm_lab.studies.verdict_file import Verdict
from registry.errors import BadInput

PathName = str | os.PathLike[str]
KEYWORDS = ("images", "budget", "device", "results", "id", "resume")


@checked
def train(
    experiment: PathName, *overrides: str, images: int | None = None, budget: str | None = None, device: str | None = None,
    results: PathName = "results", id: str | None = None, resume: bool = False, **settings: Any,
) -> Run:  # fmt: skip
    """Train an experiment, sample, evaluate and report, as `ddpm-lab run` does; the finished run.

    Args:
        experiment: a name that `ddpm-lab list experiments` shows, a YAML file, or a run's folder.
        overrides: as on the command line: "loss=huber", "train.batch=64".
        images: how many the training sees; short for "train.images=...".
        budget: a name in experiments/budgets (default: cpu).
        device: cpu, cuda, cuda:1 ..., xpu, mps (default: a GPU where there is one).
        results: where runs are kept. Nothing is written but the run's folder there, and the link `latest`.
        id: names the run, or resumes the one that has it.
        resume: go on with the newest unfinished run of the experiment, if there is one.
        settings: keys of an experiment, with values as YAML has them: seed=1, loss="huber",
            loss={"name": "huber", "delta": 0.5}, sampling={"steps": 20}.

    Raises:
        BadInput: anything is wrong, in the words of the same mistake in YAML; before anything is computed or written.
        Interrupted: the kernel was interrupted; everything is saved, and `resume=True` goes on.
        Stopped: the disk is full, or the loss is NaN or infinite.
    """
    refuse_unknown("train", settings, {*KEYWORDS, *Experiment.model_fields})
    require_overrides("train", overrides)
    layer = {key: dict(value) if isinstance(value, dict) else value for key, value in settings.items()}
    if images is not None:
        if not isinstance(layer.setdefault("train", {}), dict):
            raise BadInput(f"train(): train: {layer['train']!r} is not a mapping of settings, such as {{'batch': 64}}")
        layer["train"]["images"] = images
    recipe = load_recipe(os.fspath(experiment), overrides, budget, layer, "train()")
    with live_runs.announced():
        folder = train_to_its_end(recipe, Path(results), device, resume=resume, run_id=id)
    return Run(folder.path, device)


@checked
def load(run: PathName, device: str | None = None) -> Run:
    """Open a run's folder such as `results/latest`, an exported network, or a model that ships with the lab, by its name.

    Raises:
        BadInput: there is no such run, or a part of it is missing or damaged.
    """
    return Run(os.fspath(run), device)


@checked
def compare(*runs: Run | PathName, metric: str | None = None, features: str | None = None, n: int | None = None) -> Ranking:
    """Rank runs, and .npz files that were evaluated, by values of one protocol, the best first: `found.rows[0].value`.

    Args:
        metric: such as KID or recall (default: FID).
        features: values in these features only, such as fashion_cnn.
        n: values over so many images only.

    Raises:
        BadInput: nothing has such a value, or the protocols differ; the fields that do are named.
    """
    if not runs:
        raise BadInput("compare(): name runs, such as compare('results/latest', another_run)")
    return rank([str(one.folder) if isinstance(one, Run) else os.fspath(one) for one in runs], metric, features, n)


@checked
def verdict(
    a: str, b: str, *overrides: str, budget: str | None = None, metric: str | None = None, margin: float = 0.15,
    alpha: float = 0.05, pairs: int = 10, minutes: float | None = None, results: PathName = "results",
    device: str | None = None,
) -> Verdict:  # fmt: skip
    """Whether B is better than A, on as many pairs of runs as it takes; the same call goes on with what an earlier one left.

    Args:
        a: an experiment, with overrides in the same text: "cosine_l2 loss=huber".
        overrides: for both.
        metric: by which to decide, such as KID/fashion_cnn (default: FID, in the first extractor).
        margin: what does not matter; 0.15 is 15 %.
        alpha: the probability of a wrong verdict.
        pairs: of runs, at most.
        minutes: begin no pair that would last beyond it.

    Raises:
        BadInput: a recipe, the metric or a number is wrong, or the two are not measured alike.
        Interrupted: the kernel was interrupted; the same call goes on.
        Failed: a run ended without a value.
    """
    require_overrides("verdict", overrides)
    require_count("verdict", "pairs", pairs, least=2)
    for name, value, least, most in (("margin", margin, 0, 10), ("alpha", alpha, 1e-6, 0.5)):
        if not least <= value <= most:
            raise BadInput(f"verdict(): {name}: {value!r} is not a number from {least:g} to {most:g}")
    with live_runs.announced():
        return decide(ask(a, b, overrides, budget, metric, margin, alpha), Path(results), device, pairs, minutes)


@checked
def picture(images: Tensor, columns: int | None = None) -> Image.Image:
    """Images uint8 [n, C, H, W] in one, in rows of `columns` (default: as square as it gets); a notebook shows it."""
    return pictures.grid_of(images, columns)
