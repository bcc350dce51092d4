"""report.html: a run on one self-contained page."""

from __future__ import annotations

import base64
import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path

import jinja2

from ddpm_lab.reports.plots import svg_of_curves
from ddpm_lab.reports.result_table import by_protocol, floor_of
from ddpm_lab.runtime.console import clock
from ddpm_lab.storage.files import numbered, write_text
from ddpm_lab.storage.measurement import RunResult
from ddpm_lab.storage.metrics_log import Row, series
from ddpm_lab.storage.run_folder import RunFolder
from registry.files import PICTURE, YAML, read_file, read_text
from registry.metrics import METRICS


def write_report(folder: RunFolder, result: RunResult) -> None:
    """Put the result, and what else the run left in its folder, on a page."""
    rows = folder.read_metrics()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ddpm_lab.reports"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters |= {"clock": clock, "floor_of": floor_of, "asdict": dataclasses.asdict}
    samples = numbered(folder.samples, r"\.png")
    page = environment.get_template("report.html").render(
        run=folder.id,
        experiment=folder.path.parent.name,
        result=result,
        environment=folder.recorded_environment(),
        start=folder.recorded_start(),
        resolved=read_text(folder.experiment, YAML),
        groups=by_protocol(result.metrics),
        curves=[
            (_curve(rows, "loss"), "Training loss."),
            (
                svg_of_curves(_distances(rows, result), "images seen", METRICS.main),
                f"{METRICS.main}, at a smaller N than the result and so higher.",
            ),
            (_curve(rows, "learning_rate", wide=False), "Learning rate."),
            (_curve(rows, "gradient_norm"), "Norm of the gradient, before clipping."),
        ],
        samples=[(f"{images:,}", embedded(file)) for images, file in _spread(samples, 6)],
        final=embedded(samples[-1][1]) if samples else "",
        denoising=embedded(folder.path / "denoising.png"),
        plane=embedded(folder.path / "plane.png"),
        speed=statistics.median_high([value for _, value in series(rows, "images_per_second")] or [0.0]),
    )
    write_text(folder.report, page)


def _curve(rows: Sequence[Row], key: str, wide: bool = True) -> str:
    name = key.replace("_", " ")
    return svg_of_curves([(name, series(rows, key))], "images seen", name, wide=wide)


def _distances(rows: Sequence[Row], result: RunResult) -> list[tuple[str, list[tuple[int, float]]]]:
    """The main metric over training by extractor, without the final value, whose N is another."""
    names = dict.fromkeys(line.extractor for line in result.metrics if line.value is not None)
    sizes = [n for _, n in series(rows, "n")]
    n = f", N = {min(sizes):,}" if sizes else ""
    return [(f"{name}{n}", found) for name in names if (found := series(rows, f"{METRICS.main}/{name}"))]


def embedded(file: Path) -> str:
    """A PNG as a data URL, or nothing where it is missing."""
    return f"data:image/png;base64,{base64.b64encode(read_file(file, PICTURE)).decode()}" if file.is_file() else ""


def _spread(files: list[tuple[int, Path]], count: int) -> list[tuple[int, Path]]:
    """At most `count` of them, evenly spread, first and last included."""
    if len(files) <= count:
        return files
    return [files[round(i * (len(files) - 1) / (count - 1))] for i in range(count)]
