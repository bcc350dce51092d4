"""X and Y: a run, an evaluation of it, an .npz, or a value that somebody claims."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ddpm_lab.config.layers import Difference, differences
from ddpm_lab.config.yaml_reader import read_mapping
from ddpm_lab.inference.trained_run import Run
from ddpm_lab.storage.measurement import Interval, Measurement, Word, read_measurements
from ddpm_lab.storage.run_folder import RESOLVED
from ddpm_lab.studies.explain.factors import FACTORS, FEWEST, Way, read_levels
from ddpm_lab.studies.explain.pixels import OWN, ROUNDED
from registry.datasets.npz_reader import read_images, read_made_by
from registry.errors import BadInput, did_you_mean
from registry.metrics import METRICS

UNTRAINED = ("track", "plugins", "sampling", "evaluate", "budget")  # keys on which no weight depends
EVALUATED: Way = {"reference": "train", "quantisation": ROUNDED, "resize": OWN, "colour": OWN}  # as the lab does


@dataclass(frozen=True)
class Subject:
    """A value and what is known of it; `run` or `images` is what it can be computed from anew."""

    name: str
    value: float | None  # None of an .npz that was never evaluated
    interval: Interval | None = None
    way: Way = field(default_factory=dict)
    rounding: float = 0.0  # of a claimed value: half a unit of its last digit
    record: Measurement | None = None
    run: Run | None = None
    images: torch.Tensor | None = None  # uint8 [N, C, H, W]

    @property
    def kind(self) -> str:
        """What it is."""
        return "a run" if self.run else "a claimed value" if self.images is None else "an .npz"

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(C, H, W), where it is known."""
        if self.images is not None:
            channels, height, width = self.images.shape[1:]
            return channels, height, width
        return self.run.shape.image_shape if self.run else None

    @property
    def extractor(self) -> str | None:
        """That of its record."""
        return self.record.extractor if self.record else None

    def number(self, value: float) -> str:
        """A value of the metric as text."""
        return Measurement(METRICS.main, "", None).number(value)

    def at(self, n: int) -> Subject:
        """The same with N images, and so without its value.

        Raises:
            BadInput: it is a claimed value, or holds fewer.
        """
        if n < FEWEST:
            raise BadInput(f"-n: {n} images; fewer than {FEWEST} have no interval, so nothing can be told from noise")
        if self.kind == "a claimed value":
            raise BadInput(f"-n: {self.name} stands for the N that it was measured with; say that by n={n}")
        if self.images is not None and n > len(self.images):
            raise BadInput(f"-n: {self.name} holds {len(self.images)} images, fewer than {n}")
        return replace(self, value=None, interval=None, way={**self.way, "n": n})


def read(name: str, device: str | None, features: str | None, prefer: str | None) -> Subject:
    """What X or Y stands for; of several extractors the one that is asked for, else the preferred one, else the first.

    Raises:
        BadInput: it is nothing of the kind, or has no value in these features.
    """
    if (claim := re.fullmatch(r"(?:([\w.]+)=)?(\d+(?:\.\d*)?|\.\d+)", name)) and not os.path.exists(name):
        return _claim(name, claim[1], claim[2])
    path = Path(os.path.expanduser(name))
    if path.suffix == ".npz":
        return _npz(name, path, features, prefer)
    if path.suffix == ".json":
        if not (path.parent / RESOLVED).is_file():
            raise BadInput(
                f"{name}: no evaluation in a run's folder; name a run, an .npz or a value such as {METRICS.main}=3.4"
            )
        return _run(name, path.parent, path, features, prefer, device)
    return _run(name, path, None, features, prefer, device)


def with_words(x: Subject, y: Subject, words: Sequence[str]) -> tuple[Subject, Subject]:
    """Both, once what is said of the claimed value is known.

    Raises:
        BadInput: nothing is claimed, both are, or a word is wrong.
    """
    claims = [one for one in (x, y) if one.kind == "a claimed value"]
    if len(claims) == 2:
        raise BadInput("X and Y are both claimed values, and nothing can be computed; one of them has to be a run or an .npz")
    if not claims:
        if words:
            raise BadInput(f"'{words[0]}': such words describe a claimed value, and neither X nor Y is one")
        return x, y
    told = replace(claims[0], way=read_levels(words))
    return (told, y) if x is claims[0] else (x, told)


def _claim(name: str, metric: str | None, digits: str) -> Subject:
    if metric not in (None, METRICS.main):
        raise BadInput(f"{name}: only {METRICS.main} is explained; write {METRICS.main}={digits}")
    if not float(digits):
        raise BadInput(f"{name}: no distance of samples is 0")
    return Subject(name, float(digits), way={}, rounding=0.5 * 10.0 ** -len(digits.partition(".")[2]))


def _run(
    name: str, folder: Path, file: Path | None, features: str | None, prefer: str | None, device: str | None
) -> Subject:  # fmt: skip
    run = Run(folder, device)
    try:
        records = read_measurements(file or run.folder.result)
    except FileNotFoundError:
        raise BadInput(f"{name}: the run is not finished, or the file is missing; name an evaluation of it") from None
    except OSError as error:
        raise BadInput(f"{name}: cannot be read ({error.strerror})") from None
    record = _chosen(name, records, features, prefer)
    own = run.generation(run.experiment.sampling, run.experiment.sampling.seed)
    made = {key: value for key, value in {**own, **record.generation}.items() if key in FACTORS}
    return _measured(Subject(name, None, run=run), record, {**EVALUATED, **made})


def _npz(name: str, path: Path, features: str | None, prefer: str | None) -> Subject:
    if not path.is_file():
        raise BadInput(f"{name}: no such file")
    images = read_images(path)
    if len(images) < FEWEST:
        raise BadInput(
            f"{name}: holds {len(images)} images; fewer than {FEWEST} have no interval, so nothing can be told from noise"
        )
    made = {key: value for key, value in (read_made_by(path) or {}).items() if key in FACTORS}
    # What was done to images from elsewhere before they were saved, nobody knows.
    known = {"reference": "train", **({"quantisation": ROUNDED} if "sampler" in made else {}), **made}
    found = Subject(name, None, way={**known, "n": len(images)}, images=images)
    file = path.with_suffix(".evaluation.json")
    return _measured(found, _chosen(name, read_measurements(file), features, prefer), known) if file.is_file() else found


def _measured(subject: Subject, record: Measurement, known: Mapping[str, Word]) -> Subject:
    """With what its record says."""
    if record.n < FEWEST or record.interval is None:
        raise BadInput(
            f"{subject.name}: its {record.metric} is of {record.n} images; fewer than {FEWEST} have no interval, so nothing can"
            " be told from noise; evaluate more of them"
        )
    way = {**known, "n": record.n, "features": record.extractor}
    return replace(subject, value=record.value, interval=record.interval, way=way, record=record)


def _chosen(name: str, records: Sequence[Measurement], features: str | None, prefer: str | None) -> Measurement:
    found = {one.extractor: one for one in records if one.metric == METRICS.main and one.value is not None}
    if not found:
        raise BadInput(f"{name}: {METRICS.main} was not measured there; `ddpm-lab evaluate` does")
    if features is not None and features not in found:
        raise BadInput(f"--features: {name} has no {METRICS.main} in '{features}'; {did_you_mean(features, found)}")
    return found[features or (prefer if prefer in found else next(iter(found)))]


def training_differences(x: Run, y: Run) -> list[Difference]:
    """The keys of training in which two runs differ, and their values in X and Y."""
    mine, theirs = (
        {key: value for key, value in read_mapping(run.folder.experiment).items() if key not in UNTRAINED} for run in (x, y)
    )
    return list(differences(mine, theirs))
