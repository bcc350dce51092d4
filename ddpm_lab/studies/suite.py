"""A suite: experiments x seeds, run one after the other in processes of their own, and compared in one report."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

from ddpm_lab.config.named_files import SUITES, find
from ddpm_lab.runtime import live_runs
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.host import pick_threads
from ddpm_lab.runtime.signals import FAILURE, Interrupted
from ddpm_lab.storage.json_text import read_json, write_json
from ddpm_lab.storage.names import require_study_name
from ddpm_lab.storage.results_folder import with_id
from ddpm_lab.studies import report, suite_file, wandb_run
from ddpm_lab.studies.suite_file import Cell, Suite
from registry.errors import BadInput

BENCHMARKS = Path("benchmarks")  # of a checkout, which keeps its reports
STOPPED = {128 + number for number in (signal.SIGINT, signal.SIGTERM)}
PR_SET_PDEATHSIG = 1  # as in linux/prctl.h


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


class Lab:
    """Commands of the lab, each in a process of its own, all with the same number of threads and on the same device."""

    def __init__(self, threads: int, device: str | None) -> None:
        self.env = {**os.environ, live_runs.FIXED: str(threads)}
        self.device = ["--device", device] if device else []

    def __call__(self, *words: str) -> int:
        """Its exit status. If this process is killed, so is the command; its checkpoint is where the next one resumes.

        Raises:
            Interrupted: SIGINT or SIGTERM stopped it.
        """
        command = [sys.executable, "-m", "ddpm_lab", *words, *self.device]
        child = subprocess.Popen(command, env=self.env, preexec_fn=_die_with_parent)
        usual = signal.signal(signal.SIGTERM, lambda *_: child.terminate())  # the run saves, and says so by its status
        try:
            status = child.wait()
        except KeyboardInterrupt:  # it has had the signal too, and saves
            status = child.wait() or 128 + signal.SIGINT
        finally:
            signal.signal(signal.SIGTERM, usual)
        if status in STOPPED:
            raise Interrupted(status - 128)
        return status


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
    begun = (run.recorded_threads() for cell in cells if (run := with_id(folder, None, cell.id)))
    return pick_threads("auto", next((threads for threads in begun if threads), None))


def _run(cell: Cell, folder: Path, lab: Lab) -> None:
    """Run a cell to its end, or resume it; a run that is done is left alone."""
    done = with_id(folder, None, cell.id)
    known = failures(folder)
    if done is None or not done.finished:
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


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
