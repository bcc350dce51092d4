"""The report of a suite: the results of its finished runs, as Markdown, JSON and one self-contained page."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Mapping
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
from ddpm_lab.storage.json_text import read_json, write_json
from ddpm_lab.storage.measurement import Measurement, difference, plain, read_result
from ddpm_lab.storage.results_folder import with_id
from ddpm_lab.storage.run_folder import RunFolder
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
    environment.filters |= {"clock": clock, "number": _number, "around": _around}
    words = found | {"higher": {part.name for part in METRICS if part.traits.higher}}
    write_text(report / "report.md", environment.get_template("suite.md.jinja").render(words, pictures=list(pictures)) + "\n")
    page = environment.get_template("suite.html.jinja").render(
        words, pictures={experiment: embedded(file) for experiment, file in pictures.items()}, **_plots(found)
    )
    write_text(report / "report.html", page)
    return report / "report.html"


def gather(name: str, suite: Suite, cells: list[Cell], folder: Path, failed: Mapping[str, int]) -> Found:
    """All that the report says, as plain data."""
    runs = {cell.id: _run(cell, folder, failed) for cell in cells}
    first = suite.metrics[0]
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
    protocols = {metric: found for metric in suite.metrics if (found := _protocol(metric, measured)) is not None}
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
        experiments.append(about | _means(mine, list(protocols)) | {"curve": _curve(suite, cells, entry.name, folder)})
    experiments.sort(key=lambda one: one["typical"]["value"] if one["typical"] else float("inf"))
    example = measured[0]
    report: Found = plain({
        "name": name, "about": suite.about, "date": time.strftime("%Y-%m-%d"), "metrics": list(protocols),
        "seeds": list(suite.seeds), "budget": suite.budget, "set": list(suite.set), "experiments": experiments,
        "floor": {metric: _first_record(metric, measured) for metric in protocols}, "protocols": protocols,
        "freedom": pooled.freedom, "spread": None if pooled.freedom == 0 else pooled.variance**0.5,
        "factors": {
            factor: {"key": key, "levels": effects(values, factor), "p": p_values(values, factor)}
            for factor, key in suite.factors.items()
        },
        "failed": [run for run in runs.values() if run["status"] == "failed"],
        "missing": [run for run in runs.values() if run["status"] == "not run"],
        "machines": list(dict.fromkeys("{hardware}, {precision}".format(**run["environment"]) for run in measured)),
        "environment": example["environment"], "generation": example["metrics"][first].generation,
        "main": METRICS.main, "curve_n": suite.curve.n if suite.curve else None,
        "curve_at": sorted({point["evaluations"] for one in experiments for point in one["curve"]}),
    })  # fmt: skip
    return report


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


def curve_of(folder: RunFolder, suite: Suite) -> list[Found]:
    """Those points that the suite asks for, of what has been measured of a run as it is now."""
    if suite.curve is None:
        return []
    found = []
    for row in known_over_steps(folder, suite.curve.samplers, suite.curve.at, suite.curve.n):
        (record,) = row.metrics
        about: Found = {"value": record.value, "interval": record.interval, "floor": record.floor}
        found.append({"curve": row.curve, "evaluations": row.evaluations, **about})
    return found


def _run(cell: Cell, folder: Path, failed: Mapping[str, int]) -> Found:
    told: Found = {"id": cell.id, "experiment": cell.entry.name, "seed": cell.seed}
    run = with_id(folder, None, cell.id)
    if run is None or not run.finished:
        status = failed.get(cell.id)
        return told | {"status": "not run" if status is None else "failed", "exit_status": status}
    result = read_result(run.result)
    metrics: dict[str, Measurement] = {}
    for record in result.metrics:
        if record.value is not None:
            metrics.setdefault(record.metric, record)  # of several extractors the first
    main = METRICS.main
    key = f"{main}/{metrics[main].extractor}" if main in metrics else ""
    curve = run.series(key)
    environment = read_json(run.environment)
    costs = {cost: getattr(result, cost) for cost in COSTS}
    costs |= {"images": result.images_in_all, "training_seconds": result.training_in_all}  # with the weights it started from
    return told | {"status": "finished", "metrics": metrics, "over_training": curve, "environment": environment, **costs}


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


def _curve(suite: Suite, cells: list[Cell], name: str, folder: Path) -> list[Found]:
    run = first_run(cells, name, folder)
    return curve_of(run, suite) if run else []


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
    first, floor = found["metrics"][0], found["floor"][found["metrics"][0]]["floor"]
    done = [one for one in found["experiments"] if one["typical"]]
    bars = [(one["name"], one["typical"]["value"], one["typical"]["interval"]) for one in done]
    training = [
        (one["name"], run["over_training"]) for one in done for run in one["runs"][:1] if run["status"] == "finished"
    ]  # fmt: skip
    drawn = [one for one in done if one["curve"]]
    curves = {}
    for kind in dict.fromkeys(point["curve"] for one in drawn for point in one["curve"]):
        own = [(one["name"], [(p["evaluations"], p["value"]) for p in one["curve"] if p["curve"] == kind]) for one in drawn]
        curves[kind] = svg_of_curves(
            own, "evaluations of the network for an image", f"{METRICS.main}, N = {found['curve_n']:,}", logarithmic=True,
            floor=drawn[0]["curve"][0]["floor"],
        )  # fmt: skip
    return {
        "ranking": svg_of_intervals(bars, first, floor),
        "curve_floor": drawn[0]["curve"][0]["floor"] if drawn else None,
        "training": svg_of_curves(training, "images seen", f"{METRICS.main} while training"),
        "curves": curves,
    }


def _number(value: float | None, metric: str) -> str:
    return "" if value is None else f"{value:.{METRICS.part(metric).traits.digits}f}"


def _around(interval: tuple[float, float] | None, metric: str) -> str:
    return f"{_number(interval[0], metric)} to {_number(interval[1], metric)}" if interval else ""
