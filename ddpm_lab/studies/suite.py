"""A suite: experiments x seeds, run one after the other in processes of their own, and compared in one report."""

from __future__ import annotations

import os
from pathlib import Path

from ddpm_lab.config.named_files import SUITES, find
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.host import pick_threads
from ddpm_lab.runtime.signals import FAILURE
from ddpm_lab.storage.json_text import read_json, write_json
from ddpm_lab.storage.names import require_study_name
from ddpm_lab.storage.results_folder import wait_until_free, with_id
from ddpm_lab.studies import report, suite_file, wandb_run
from ddpm_lab.studies.commands import Lab
from ddpm_lab.studies.suite_file import Cell, Suite
from registry.errors import BadInput

BENCHMARKS = Path("benchmarks")  # of a checkout, which keeps its reports


def bench(name: str, results: Path, reports: Path | None, device: str | None, *, only_report: bool) -> None:
    """Run what is left of a suite in `results/suites/<name>/`, then write its report.

    The report lies in `reports/<name>/`; without `reports`, in benchmarks/reports/<name>/ where there is a folder benchmarks/,
    else beside the runs.

    Raises:
        BadInput: the suite, or what its folder holds, cannot be used; no run is finished.
        Interrupted: SIGINT or SIGTERM came; the run is saved, and the next start resumes it.
    """
    file = find("suite", name, SUITES)
    require_study_name(file)
    suite = suite_file.read(file)
    cells = suite_file.cells(suite, file)
    folder = results / "suites" / file.stem
    folder.mkdir(parents=True, exist_ok=True)
    if not only_report:
        lab = Lab(threads_of(cells, folder), device)
        for number, cell in enumerate(cells, 1):
            say(f"suite {file.stem}: run {number} of {len(cells)}: {cell.entry.name}, seed {cell.seed}")
            _run(cell, folder, lab)
        _curves(suite, cells, folder, lab)
    if reports is None and BENCHMARKS.is_dir():
        reports = BENCHMARKS / "reports"
    place = folder / "report" if reports is None else reports / file.stem
    page = report.write(file.stem, suite, cells, folder, failures(folder), place)
    say(f"report: {page}")
    wandb_run.send(file.stem, folder, place)


def failures(folder: Path) -> dict[str, int]:
    """The exit status of each run that did not end well, by its id."""
    file = folder / "failures.json"
    try:
        known = read_json(file) if file.is_file() else {}
        if not isinstance(known, dict) or not all(isinstance(status, int) for status in known.values()):
            raise BadInput(f"{file}: not the exit statuses of runs")
    except BadInput as error:
        raise BadInput(f"{error}; remove it, and the runs that failed are tried again") from None
    return known


def threads_of(cells: list[Cell], folder: Path) -> int:
    """One number for all runs, because it changes their last bits: that of the first run that was started, else a share."""
    begun = (run.recorded_environment().threads for cell in cells if (run := with_id(folder, None, cell.id)))
    return pick_threads("auto", next((threads for threads in begun if threads), None))


def _run(cell: Cell, folder: Path, lab: Lab) -> None:
    """Run a cell to its end, or resume it; a run that is done is left alone."""
    done = with_id(folder, None, cell.id)
    known = failures(folder)
    if done is None or not done.finished:
        wait_until_free(folder, cell.id)
        status = lab("run", *cell.words, "--id", cell.id, "--results", os.fspath(folder))
        known.pop(cell.id, None)
        if status == 0 and not ((done := with_id(folder, None, cell.id)) and done.finished):
            status = FAILURE
        if status:
            say(f"{cell.id} failed with exit status {status}; the suite continues, and tries it again next time")
            known[cell.id] = status
        write_json(folder / "failures.json", known)


def _curves(suite: Suite, cells: list[Cell], folder: Path, lab: Lab) -> None:
    """For the first run of each experiment that is finished."""
    if suite.curve is None:
        return
    words = ["--curve", "nfe", "--samplers", ",".join(suite.curve.samplers), "--at", ",".join(map(str, suite.curve.at))]
    for entry in suite.experiments:
        run = report.first_run(cells, entry.name, folder)
        if run is None or len(report.curve_of(run, suite)) == len(suite.curve.samplers) * len(suite.curve.at):
            continue
        status = lab("evaluate", os.fspath(run.path), *words, "-n", str(suite.curve.n))
        if status:
            say(f"the curve of {entry.name} failed with exit status {status}; the report does without it")
