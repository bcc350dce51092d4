"""A run's folder: `results/<experiment>/<time>-<id>/`, and everything a run leaves there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ddpm_lab.runtime.console import say
from ddpm_lab.storage.files import open_lock, write_text, write_whole
from ddpm_lab.storage.json_text import from_json, read_json, to_json
from ddpm_lab.storage.names import LATEST, id_of, require_experiment_name, run_name
from registry.beside import Plugin
from registry.errors import BadInput
from registry.files import CHECKSUM, ROWS, read_text

RESOLVED = "resolved.yaml"


class RunFolder:
    """The names of the files in a run's folder, in one place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        self.experiment = path / RESOLVED
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.jsonl"
        self.samples = path / "samples"
        self.checkpoints = path / "checkpoints"
        self.snapshots = path / "snapshots"
        self._lock = -1
        self.plugins = path / "plugins"
        self.result = path / "result.json"
        self.report = path / "report.html"
        self.data = path / "data.json"
        self.wandb = path / "wandb.json"  # which W&B run it is; no key

    def weights(self, kind: str) -> Path:
        """`ema.safetensors`, `raw.safetensors`, `ema_2.safetensors` ..."""
        return self.path / f"{kind}.safetensors"

    @property
    def known_weights(self) -> list[str]:
        """The names of the weights that are there."""
        return sorted(file.stem for file in self.path.glob("*.safetensors") if not file.name.startswith("."))

    def snapshot(self, images: int, name: str = "") -> Path:
        """The weights that images were drawn from after so many images, or those of that name."""
        return self.snapshots / f"{images:09d}{f'-{name}' if name else ''}.safetensors"

    @property
    def final_weights(self) -> Path | None:
        """The EMA weights where the run has them, else the raw ones, else None."""
        return next((file for kind in ("ema", "raw") if (file := self.weights(kind)).is_file()), None)

    @classmethod
    def create(
        cls, results: Path, experiment: str, run_id: str | None = None, fill: Callable[[RunFolder], None] = lambda _: None
    ) -> RunFolder:
        """A new folder, held by this process, with what `fill` writes of the run's record; `latest` points at it at last.

        A process that is killed meanwhile leaves what `clear_abandoned` removes.

        Raises:
            BadInput: it cannot be written.
        """
        folder = cls(results / experiment / run_name(run_id))
        try:
            folder.path.parent.mkdir(parents=True, exist_ok=True)
            with _alone_in(folder.path.parent):
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

    @classmethod
    def open(cls, name: str | Path) -> RunFolder:
        """An existing run.

        Raises:
            BadInput: there is none.
        """
        path = Path(os.path.expanduser(name))
        try:
            folder = cls(path.resolve() if path.is_symlink() else path)
            there = folder.experiment.is_file()
        except OSError as error:  # a name that is too long, a folder that may not be read
            raise BadInput(f"no run at '{name}' ({error.strerror})") from None
        if not there:
            raise BadInput(f"no run at '{name}': {folder.experiment} is missing; `ls results/*` shows the runs")
        return folder

    def hold(self) -> bool:
        """Take the folder for this process as long as it lives; whether no other one has it.

        Raises:
            BadInput: it cannot be written.
        """
        try:
            self._lock = open_lock(self.path / ".lock")  # let go when the process ends
        except OSError as error:
            raise BadInput(f"{self.path}: cannot be written ({error.strerror}); mend that, or name other --results") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        except OSError:
            pass  # a file system without locks
        return True

    def release(self) -> None:
        """Let go of the folder before the process ends, as a notebook's may live on."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def clear_partial(self) -> None:
        """Remove what a process left behind that was killed while it wrote."""
        for file in self.path.rglob(".partial-*"):
            file.unlink(missing_ok=True)

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        return self.result.is_file()

    def recorded_threads(self) -> int | None:
        """The number of threads that the run began with, None where environment.json does not say."""
        try:
            threads = read_json(self.environment)["threads"]
        except (OSError, BadInput, KeyError, TypeError):
            return None
        return threads if type(threads) is int and threads > 0 else None

    def tracked_as(self) -> dict[str, Any]:
        """What wandb.json says of the W&B run, nothing where there is none."""
        try:
            known = read_json(self.wandb)
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def picture(self, row: dict[str, Any], key: str) -> Path | None:
        """The picture under that key of a row of metrics, None where it holds something else or the picture is gone."""
        entry = row[key]
        if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
            return None
        file = (self.path / entry["file"]).resolve()
        return file if file.is_file() and file.is_relative_to(self.path.resolve()) else None

    def append_metrics(self, row: dict[str, Any]) -> None:
        """One row of metrics.jsonl; a picture is a row too, `{"images": 20000, "samples": {"file": ..., "caption": ...}}`."""
        with open(self.metrics, "a", encoding="utf-8") as stream:
            stream.write(to_json(row) + "\n")
            stream.flush()
            os.fsync(stream.fileno())  # before the checkpoint that counts this row

    def read_metrics(self) -> list[dict[str, Any]]:
        """All rows, up to the last whole one."""
        if not self.metrics.exists():
            return []
        rows = []
        for line in read_text(self.metrics, ROWS).splitlines():
            try:
                rows.append(from_json(line))
            except ValueError:
                break  # the process died while it wrote this line
        return rows

    def cut_metrics(self, rows: int) -> None:
        """Keep the rows that the checkpoint knows: the resumed run writes the later ones again."""
        write_text(self.metrics, "".join(to_json(row) + "\n" for row in self.read_metrics()[:rows]))

    def keep_plugins(self, plugins: Sequence[Plugin]) -> tuple[str, ...]:
        """Write plugins down as they were run, each in a folder of its own with the modules beside it, and beside each file its
        SHA-256; the plugins' paths in the run's folder, for resolved.yaml."""
        kept = []
        for number, plugin in enumerate(plugins):
            folder = self.plugins / str(number)
            folder.mkdir(parents=True)
            for name, content in plugin.sources.items():
                write_whole(folder / name, partial(Path.write_bytes, data=content))
                write_text(_hash_file(folder / name), f"{plugin.digests[name]}  {name}\n")
            kept.append(str((folder / plugin.file.name).relative_to(self.path)))
        return tuple(kept)


def recorded_hash(plugin: Path) -> str:
    """The SHA-256 that a run recorded of its copy of a plugin; nothing where it recorded none."""
    try:
        return read_text(_hash_file(plugin), CHECKSUM).partition(" ")[0]
    except (OSError, BadInput):
        return ""


def _hash_file(plugin: Path) -> Path:
    return plugin.with_name(f"{plugin.name}.sha256")


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


def newest_unfinished(results: Path, experiment: str) -> RunFolder | None:
    """The newest run of an experiment that did not come to its end and that no other process has; held by this one."""
    for folder in runs(results, experiment):
        if not folder.finished:
            if folder.hold():
                return folder
            say(f"{folder.path} is running in another process; not resumed")
    return None


def clear_abandoned(results: Path, experiment: str) -> None:
    """Remove what processes left that were killed before their run had its record, without which nothing can finish it."""
    place = results / experiment
    if not place.is_dir():
        return
    with _alone_in(place):
        for path in _folders_in(place):
            if id_of(path.name) is not None and _unrecorded(path) and (left := RunFolder(path)).hold():
                shutil.rmtree(path, ignore_errors=True)
                left.release()
                say(f"{path}: removed; its process was killed before the run began")


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


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One process at a time makes or clears runs there, so that none clears what another has made and not yet locked."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
