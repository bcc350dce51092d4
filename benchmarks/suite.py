"""A suite: experiments x seeds, run one after the other and compared in one report.

make bench SUITE=fashion_cpu        go on with the same command where it was stopped, however it was stopped

Runs lie in results/suites/<suite>/; benchmarks/reports/<suite>/ has report.md, report.json and report.html.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import suite_file
import suite_report
import suite_tracking
from suite_file import Cell, Suite

from ddpm_lab.runtime import live_runs
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.host import pick_threads
from ddpm_lab.runtime.signals import BAD_INPUT, FAILURE
from ddpm_lab.storage.json_text import read_json, write_json
from ddpm_lab.storage.run_folder import with_id
from registry.errors import BadInput, reason

RESULTS = Path("results/suites")
REPORTS = Path("benchmarks/reports")
STOPPED = {130, 128 + signal.SIGTERM}
PR_SET_PDEATHSIG = 1  # as in linux/prctl.h


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", help="a name in benchmarks/suites, or a YAML file")
    parser.add_argument("--report", action="store_true", help="run nothing; report what there is")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the runs are kept (default: results/suites)")
    parser.add_argument("--reports", type=Path, default=REPORTS, help="where the report goes (default: benchmarks/reports)")
    parser.add_argument("--device", help="cpu, cuda ... (default: the GPU where there is one)")
    arguments = parser.parse_args()
    file = suite_file.find(arguments.suite)
    suite = suite_file.read(file)
    cells = suite_file.cells(suite, file)
    folder, report = arguments.results / file.stem, arguments.reports / file.stem
    folder.mkdir(parents=True, exist_ok=True)
    if not arguments.report:
        with live_runs.announced():
            os.environ[live_runs.FIXED] = str(threads_of(cells, folder))
            for number, cell in enumerate(cells, 1):
                say(f"suite {file.stem}: run {number} of {len(cells)}: {cell.entry.name}, seed {cell.seed}")
                _run(cell, folder, arguments.device)
            _curves(suite, cells, folder, arguments.device)
    page = suite_report.write(file.stem, suite, cells, folder, failures(folder), report)
    say(f"report: {page}")
    suite_tracking.send(file.stem, folder, report)


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
    """One number for all runs, because it changes their last bits: that of the first run that has begun, else a share."""
    begun = (run.recorded_threads() for cell in cells if (run := with_id(folder, "*", cell.id)))
    return pick_threads("auto", next((threads for threads in begun if threads), None))


def _run(cell: Cell, folder: Path, device: str | None) -> None:
    """Run a cell to its end, or go on with it; a run that is done is left alone."""
    done = with_id(folder, None, cell.id)
    known = failures(folder)
    if done is None or not done.finished:
        status = _lab("run", *cell.words, "--id", cell.id, "--results", os.fspath(folder), *_on(device))
        if status in STOPPED:
            raise SystemExit(status)
        known.pop(cell.id, None)
        if status == 0 and not ((done := with_id(folder, None, cell.id)) and done.finished):
            status = FAILURE
        if status:
            say(f"{cell.id} failed with exit status {status}; the suite goes on, and tries it again next time")
            known[cell.id] = status
        write_json(folder / "failures.json", known)


def _curves(suite: Suite, cells: list[Cell], folder: Path, device: str | None) -> None:
    """For the first run of each experiment that is finished."""
    if suite.curve is None:
        return
    words = ["--curve", "nfe", "--samplers", ",".join(suite.curve.samplers), "--at", ",".join(map(str, suite.curve.at))]
    for entry in suite.experiments:
        run = suite_report.first_run(cells, entry.name, folder)
        if run is None or len(suite_report.curve_of(run, suite)) == len(suite.curve.samplers) * len(suite.curve.at):
            continue
        status = _lab("evaluate", os.fspath(run.path), *words, "-n", str(suite.curve.n), *_on(device))
        if status in STOPPED:
            raise SystemExit(status)
        if status:
            say(f"the curve of {entry.name} failed with exit status {status}; the report does without it")


def _on(device: str | None) -> list[str]:
    return ["--device", device] if device else []


def _lab(*words: str) -> int:
    """A command of the lab. If this process is killed, so is the command; its checkpoint is where the next one goes on."""
    child = subprocess.Popen([sys.executable, "-m", "ddpm_lab", *words], preexec_fn=_die_with_parent)
    usual = signal.signal(signal.SIGTERM, lambda *_: child.terminate())  # the run saves, and says so by its status
    try:
        return child.wait()
    except KeyboardInterrupt:  # it has had the signal too, and saves
        return child.wait() or 130
    finally:
        signal.signal(signal.SIGTERM, usual)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    try:
        main()
    except (BadInput, OSError, ValueError, KeyError) as error:  # the last two: a file of the suite that is damaged
        print(f"suite: error: {reason(error)}", file=sys.stderr)
        raise SystemExit(BAD_INPUT if isinstance(error, BadInput) else FAILURE) from None
