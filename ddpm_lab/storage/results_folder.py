"""The results folder: makes runs in it, finds them, and keeps `latest`, the link to the newest."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from ddpm_lab.runtime.console import say
from ddpm_lab.storage.locks import alone_in
from ddpm_lab.storage.names import LATEST, id_of, require_experiment_name, run_name
from ddpm_lab.storage.run_folder import RunFolder
from registry.errors import BadInput


def create_run(
    results: Path, experiment: str, run_id: str | None = None, fill: Callable[[RunFolder], None] = lambda _: None
) -> RunFolder:
    """A new folder, held by this process, with what `fill` writes of the run's record; `latest` points at it at last.

    A process that is killed meanwhile leaves what `clear_abandoned` removes.

    Raises:
        BadInput: it cannot be written.
    """
    folder = RunFolder(results / experiment / run_name(run_id))
    try:
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        # Else another process could clear it before it is held.
        with alone_in(folder.path.parent):
            folder.path.mkdir()
            folder.hold()
        try:
            folder.samples.mkdir()
            fill(folder)
            point_latest(results, folder.path)
        except BaseException:
            shutil.rmtree(folder.path, ignore_errors=True)
            raise
    except OSError as error:
        text = f"{folder.path} cannot be written ({error.strerror}); name a folder that can"
        raise BadInput(f"--results: {text}") from None
    return folder


def point_latest(results: Path, path: Path) -> None:
    """Make `results/latest` a link to that run."""
    aside = path / f".partial-{os.getpid()}-{LATEST}"  # in the run's folder, where it is cleared if this process is killed
    aside.unlink(missing_ok=True)
    aside.symlink_to(path.relative_to(results), target_is_directory=True)
    os.replace(aside, results / LATEST)


def require_place(results: Path, experiment: str) -> None:
    """Nothing where runs of that experiment can be kept there.

    Raises:
        BadInput: the experiment has a name that the folder needs, or something of the user's is in the place of `latest`.
    """
    require_experiment_name(experiment)
    latest = results / LATEST
    if os.path.lexists(latest) and not latest.is_symlink():
        raise BadInput(
            f"--results: {latest} is no link; the lab keeps its link to the newest run there, so move it away, or name another"
            " folder"
        )


def runs(results: Path, experiment: str | None = None) -> list[RunFolder]:
    """The runs of an experiment, or of all, that have their record; the newest first."""
    folders = _folders_in(results) if experiment is None else [results / experiment]
    found = [path for folder in folders for path in _folders_in(folder) if id_of(path.name) is not None]
    newest_first = sorted(found, key=lambda path: path.name, reverse=True)
    return [folder for path in newest_first if (folder := RunFolder(path)).experiment.is_file()]


def with_id(results: Path, experiment: str | None, run_id: str) -> RunFolder | None:
    """The newest run with exactly that id, of an experiment or of any (None); None where there is none."""
    return next((folder for folder in runs(results, experiment) if id_of(folder.id) == run_id), None)


def wait_until_free(results: Path, run_id: str, seconds: float = 60.0) -> None:
    """Until no process has the run of that id, or so long: whose parent was killed, it may still be saving."""
    run, end = with_id(results, None, run_id), time.monotonic() + seconds
    while run is not None and not run.hold() and time.monotonic() < end:
        time.sleep(0.1)
    if run is not None:
        run.release()


def newest_unfinished(results: Path, experiment: str) -> RunFolder | None:
    """The newest unfinished run of an experiment that no other process has; held by this one."""
    for folder in runs(results, experiment):
        if not folder.finished:
            if folder.hold():
                return folder
            say(f"{folder.path} is running in another process; not resumed")
    return None


def newest_finished(results: Path, experiment: str) -> RunFolder | None:
    """The newest finished run of an experiment."""
    return next((folder for folder in runs(results, experiment) if folder.finished), None)


def clear_abandoned(results: Path, experiment: str) -> None:
    """Remove what processes left that were killed before their run had its record, without which nothing can finish it."""
    place = results / experiment
    if not place.is_dir():
        return
    with alone_in(place):
        for path in _folders_in(place):
            if id_of(path.name) is not None and _unrecorded(path) and (left := RunFolder(path)).hold():
                shutil.rmtree(path, ignore_errors=True)
                left.release()
                say(f"{path}: removed; its process was killed before the run started")


def _unrecorded(path: Path) -> bool:
    """Whether it holds what a run has before its record, and nothing else, which may be somebody's."""
    try:
        names = {entry.name for entry in path.iterdir() if not entry.name.startswith(".partial-")}
        return names <= {".lock", "samples", "plugins"} and not any((path / "samples").glob("*"))
    except OSError:
        return False


def _folders_in(path: Path) -> list[Path]:
    """Without links, such as `latest`."""
    try:
        return [Path(entry) for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
