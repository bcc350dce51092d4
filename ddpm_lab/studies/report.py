"""The report of a suite: the results of its finished runs, as Markdown, JSON and one self-contained page."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from ddpm_lab.inference.curve_points import known_over_steps
from ddpm_lab.reports.plots import svg_of_curves, svg_of_intervals
from ddpm_lab.reports.run_report import embedded
from ddpm_lab.reports.shared_buckets import over_shared
from ddpm_lab.runtime.console import clock
from ddpm_lab.runtime.redaction import discreet
from ddpm_lab.storage.files import numbered, write_text
from ddpm_lab.storage.json_text import write_json
from ddpm_lab.storage.measurement import CurvePoint, Measurement, difference, plain, read_result
from ddpm_lab.storage.results_folder import with_id
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.studies.columns import Columns, columns_of, in_columns
from ddpm_lab.studies.effects import Results, effects, p_values, pool, typical
from ddpm_lab.studies.suite_file import Cell, Suite
from registry.errors import BadInput
from registry.metrics import METRICS

Found = dict[str, Any]
COSTS = ("images", "training_seconds", "evaluation_seconds", "peak_gigabytes", "parameters", "flops_per_image")


def write(name: str, suite: Suite, cells: list[Cell], folder: Path, failed: Mapping[str, int], report: Path) -> Path:
    """Write all three, and the pictures beside them; the page's path.

    Raises:
        BadInput: no run is finished, or they were not measured alike.
    """
    found = discreet(gather(name, suite, cells, folder, failed))
    report.mkdir(parents=True, exist_ok=True)
    pictures = _copy_samples(suite, cells, folder, report)
    write_json(report / "report.json", found)
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package) for package in ("ddpm_lab.studies", "ddpm_lab.reports")]),
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(["html.jinja"]),
    )  # fmt: skip
    metric_of: dict[str, str] = found["metric_of"]

    def number(value: float | None, column: str) -> str:
        return "" if value is None else f"{value:.{METRICS.part(metric_of[column]).traits.digits}f}"

    def around(interval: tuple[float, float] | None, column: str) -> str:
        return f"{number(interval[0], column)} to {number(interval[1], column)}" if interval else ""

    environment.filters |= {"clock": clock, "number": number, "around": around}
    words = found | {"higher": {column for column, metric in metric_of.items() if METRICS.part(metric).traits.higher}}
    write_text(report / "report.md", environment.get_template("suite.md.jinja").render(words, pictures=list(pictures)) + "\n")
    page = environment.get_template("suite.html.jinja").render(
        words, pictures={experiment: embedded(file) for experiment, file in pictures.items()}, **_plots(found)
    )
    write_text(report / "report.html", page)
    return report / "report.html"


def gather(name: str, suite: Suite, cells: list[Cell], folder: Path, failed: Mapping[str, int]) -> Found:
    """All that the report says, as plain data."""
    runs = {cell.id: _run(cell, folder, failed) for cell in cells}
    curves = {entry.name: _curve(suite, cells, entry.name, folder) for entry in suite.experiments}
    columns = _named(suite.metrics, list(runs.values()), [row for rows in curves.values() for row in rows])
    shown = [column for (metric, _), column in columns.items() if metric in suite.metrics]
    first = shown[0] if shown else suite.metrics[0]
    for run in runs.values():
        if run["status"] == "finished" and first not in run["metrics"] and run["id"] in failed:
            run |= {"status": "failed", "exit_status": failed[run["id"]]}  # it is finished, and its images are not finite
    finished = [cell for cell in cells if runs[cell.id]["status"] == "finished"]
    if not finished:
        told = ", ".join(f"{run_id} failed ({status})" for run_id, status in failed.items())
        raise BadInput(
            f"{folder}: no run of the suite is finished{': ' + told if told else ''}; `ddpm-lab bench {name}` runs them"
        )
    if lacking := [cell.id for cell in finished if first not in runs[cell.id]["metrics"]]:
        raise BadInput(f"{folder}: {lacking[0]} has no {first}, by which the suite ranks; name another metric first")
    measured = [runs[cell.id] for cell in finished]
    protocols = {metric: found for metric in shown if (found := _protocol(metric, measured)) is not None}
    for metric in protocols:
        _share_buckets(metric, measured)
    results = {
        entry.name: Results(own[0].levels, [runs[cell.id]["metrics"][first].value for cell in own])
        for entry in suite.experiments
        if (own := [cell for cell in finished if cell.entry.name == entry.name])
    }
    values = list(results.values())
    if min(value for one in values for value in one.values) <= 0:
        raise BadInput(f"metrics: {first} is not positive in every run, and has no geometric mean; name {METRICS.main} first")
    pooled = pool(values)
    experiments = []
    for entry in suite.experiments:
        mine = [runs[cell.id] for cell in cells if cell.entry.name == entry.name]
        about: Found = {
            "name": entry.name,
            "runs": mine,
            "typical": typical(results[entry.name], pooled) if entry.name in results else None,
        }
        experiments.append(about | _means(mine, list(protocols)) | {"curve": _points(curves[entry.name], columns)})
    experiments.sort(key=lambda one: one["typical"]["value"] if one["typical"] else float("inf"))
    example = measured[0]
    report: Found = plain({
        "name": name, "about": suite.about, "date": time.strftime("%Y-%m-%d"), "metrics": list(protocols),
        "metric_of": {column: metric for (metric, _), column in columns.items()},
        "seeds": list(suite.seeds), "budget": suite.budget, "set": list(suite.set), "experiments": experiments,
        "floor": {metric: _first_record(metric, measured) for metric in protocols}, "protocols": protocols,
        "freedom": pooled.freedom, "spread": None if pooled.freedom == 0 else pooled.variance**0.5,
        "factors": {
            factor: {"key": key, "levels": effects(values, factor), "p": p_values(values, factor)}
            for factor, key in suite.factors.items()
        },
        "failed": [run for run in runs.values() if run["status"] == "failed"],
        "missing": [run for run in runs.values() if run["status"] == "not run"],
        "machines": list(dict.fromkeys(f"{one.hardware}, {one.precision}" for one in (run["environment"] for run in measured))),
        "environment": example["environment"], "generation": example["metrics"][first].generation,
        "main": METRICS.main, "curve_n": suite.curve.n if suite.curve else None,
        "curve_at": sorted({point["evaluations"] for one in experiments for point in one["curve"]}),
    })  # fmt: skip
    return report


def _named(metrics: Sequence[str], runs: Sequence[Found], rows: Sequence[CurvePoint]) -> Columns:
    """The columns of all values; in the runs these go by them from now on."""
    records = [record for run in runs for record in run.get("records", ())]
    columns = columns_of(metrics, [*records, *(record for row in rows for record in row.metrics)])
    for run in runs:
        run["metrics"] = in_columns(run.pop("records", ()), columns)
        run["over_training"] = {columns[key]: series for key, series in run.get("over_training", {}).items()}
    return columns


def _means(runs: list[Found], metrics: list[str]) -> Found:
    """Of an experiment's finished runs: each metric and each cost, None where no run has it."""
    done = [run for run in runs if run["status"] == "finished"]
    values = {metric: [run["metrics"][metric].value for run in done if metric in run["metrics"]] for metric in metrics}
    costs = {cost: [run[cost] for run in done if run[cost] is not None] for cost in COSTS}
    means, spent = (
        {key: statistics.fmean(found) if found else None for key, found in all_.items()} for all_ in (values, costs)
    )
    return {"finished": len(done), "means": means, "costs": spent}


def _first_record(metric: str, runs: list[Found]) -> Measurement:
    found: Measurement = next(run["metrics"][metric] for run in runs if metric in run["metrics"])
    return found


def curve_of(folder: RunFolder, suite: Suite) -> list[CurvePoint]:
    """Those points that the suite asks for, of what has been measured of a run as it is now."""
    if suite.curve is None:
        return []
    return known_over_steps(folder, suite.curve.samplers, suite.curve.at, suite.curve.n)


def _run(cell: Cell, folder: Path, failed: Mapping[str, int]) -> Found:
    told: Found = {"id": cell.id, "experiment": cell.entry.name, "seed": cell.seed}
    run = with_id(folder, None, cell.id)
    if run is None or not run.finished:
        status = failed.get(cell.id)
        return told | {"status": "not run" if status is None else "failed", "exit_status": status}
    result = read_result(run.result)
    records = [record for record in result.metrics if record.value is not None]
    series = {
        (one.metric, one.extractor): run.series(f"{one.metric}/{one.extractor}")
        for one in records
        if one.metric == METRICS.main
    }
    costs = {cost: getattr(result, cost) for cost in COSTS}
    costs |= {"images": result.images_in_all, "training_seconds": result.training_in_all}  # with the weights it started from
    about: Found = {"records": records, "over_training": series, "environment": run.recorded_environment()}
    return told | {"status": "finished", **about, **costs}


def _protocol(metric: str, runs: list[Found]) -> Found | None:
    """The one protocol of a metric in all runs that have it; None where none has.

    Raises:
        BadInput: they differ.
    """
    records: list[Measurement] = [run["metrics"][metric] for run in runs if metric in run["metrics"]]
    for other in records:
        if other.fingerprint != records[0].fingerprint:
            raise BadInput(
                f"the runs' {metric} was not measured alike ({difference(records[0], other)}); a suite compares what was"
            )
    return {"fingerprint": records[0].fingerprint, **asdict(records[0].protocol)} if records else None


def _share_buckets(metric: str, runs: list[Found]) -> None:
    """The records of a metric that is a mean over buckets, in place, averaged over the buckets that all runs have."""
    having = [run for run in runs if metric in run["metrics"]]
    records = over_shared([run["metrics"][metric] for run in having], [run["id"] for run in having])
    for run, record in zip(having, records, strict=True):
        run["metrics"][metric] = record


def first_run(cells: list[Cell], name: str, folder: Path) -> RunFolder | None:
    """The first finished run of an experiment, in the order of the seeds."""
    return next(
        (run for cell in cells if cell.entry.name == name and (run := with_id(folder, None, cell.id)) and run.finished), None
    )


def _curve(suite: Suite, cells: list[Cell], name: str, folder: Path) -> list[CurvePoint]:
    run = first_run(cells, name, folder)
    return curve_of(run, suite) if run else []


def _points(rows: Sequence[CurvePoint], columns: Columns) -> list[Found]:
    return [
        {"metric": columns[one.metric, one.extractor], "curve": row.curve, "evaluations": row.evaluations,
         "value": one.value, "interval": one.interval, "floor": one.floor}
        for row in rows
        for one in row.metrics
    ]  # fmt: skip


def _copy_samples(suite: Suite, cells: list[Cell], folder: Path, report: Path) -> dict[str, Path]:
    """The last grid of each experiment's first run: the same noise in all of them."""
    found = {}
    for entry in suite.experiments:
        run = first_run(cells, entry.name, folder)
        if run and (grids := numbered(run.samples, r"\.png")):
            (report / "samples").mkdir(exist_ok=True)
            found[entry.name] = report / "samples" / f"{entry.name}.png"
            shutil.copyfile(grids[-1][1], found[entry.name])
    return found


def _plots(found: Found) -> Found:
    """SVG; over training and against evaluations one for each extractor, by the name of its column."""
    first, floor = found["metrics"][0], found["floor"][found["metrics"][0]]["floor"]
    done = [one for one in found["experiments"] if one["typical"]]
    bars = [(one["name"], one["typical"]["value"], one["typical"]["interval"]) for one in done]
    runs = [(one["name"], one["runs"][0]["over_training"]) for one in done if one["runs"][0]["status"] == "finished"]
    training = {
        column: svg_of_curves(
            [(name, series.get(column, [])) for name, series in runs], "images seen", f"{column} while training"
        )
        for column in dict.fromkeys(column for _, series in runs for column in series)
    }  # fmt: skip
    drawn = [one for one in done if one["curve"]]
    curves = []
    for kind, column in dict.fromkeys((point["curve"], point["metric"]) for one in drawn for point in one["curve"]):
        points = [(one["name"], [p for p in one["curve"] if (p["curve"], p["metric"]) == (kind, column)]) for one in drawn]
        own = [(name, [(point["evaluations"], point["value"]) for point in those]) for name, those in points]
        below = next(point["floor"] for _, those in points for point in those)
        plot = svg_of_curves(
            own, "evaluations of the network for an image", f"{column}, N = {found['curve_n']:,}", logarithmic=True, floor=below
        )
        curves.append({"kind": kind, "metric": column, "floor": below, "plot": plot})
    return {
        "ranking": svg_of_intervals(bars, first, floor),
        "training": {column: plot for column, plot in training.items() if plot},
        "curves": curves,
    }
