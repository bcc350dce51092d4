"""A run's folder: `results/<experiment>/<time>-<id>/`, and everything a run leaves there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from filelock import FileLock
from pydantic import TypeAdapter

from ddpm_lab.runtime.environment import Environment
from ddpm_lab.storage import shipped
from ddpm_lab.storage.files import write_text, write_whole
from ddpm_lab.storage.json_text import from_json, read_record, to_json
from ddpm_lab.storage.locks import take_lock
from ddpm_lab.storage.measurement import read_result
from ddpm_lab.storage.metrics_log import Picture, Row, from_line, series, to_line
from ddpm_lab.storage.starting_weights import StartingWeights
from registry.beside import Plugin
from registry.errors import BadInput
from registry.files import CHECKSUM, ROWS, read_text

RESOLVED, RESULTS = "resolved.yaml", Path("results")
_ENVIRONMENT, _START = TypeAdapter(Environment), TypeAdapter(StartingWeights)


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
        self._lock: FileLock | None = None
        self.plugins = path / "plugins"
        self.result = path / "result.json"
        self.report = path / "report.html"
        self.data = path / "data.json"
        self.start = path / "start.json"  # which weights it began from
        self.wandb = path / "wandb.json"  # which W&B run it is; no key

    def __reduce__(self) -> tuple[type[RunFolder], tuple[Path]]:
        return RunFolder, (self.path,)  # the process that it is sent to does not hold it

    def __str__(self) -> str:
        """What `open` finds it by."""
        return self.path.name if self.ships else str(self.path)

    def weights(self, kind: str) -> Path:
        """`ema.safetensors`, `raw.safetensors`, `ema_2.safetensors` ..."""
        return self.path / f"{kind}.safetensors"

    @property
    def known_weights(self) -> list[str]:
        """The names of the weights that are there."""
        return sorted(file.stem for file in self.path.glob("*.safetensors") if not file.name.startswith("."))

    def snapshot(self, images: int, name: str = "") -> Path:
        """The weights that images were sampled from after so many images, or those of that name."""
        return self.snapshots / f"{images:09d}{f'-{name}' if name else ''}.safetensors"

    @property
    def final_weights(self) -> Path | None:
        """The EMA weights where the run has them, else the raw ones, else None."""
        return next((file for kind in ("ema", "raw") if (file := self.weights(kind)).is_file()), None)

    @classmethod
    def open(cls, name: str | Path) -> RunFolder:
        """An existing run, an exported folder, or a model that ships with the lab, by its name.

        Raises:
            BadInput: there is none.
        """
        try:
            folder = cls.named(name)
            there = folder.experiment.is_file()
        except OSError as error:  # a name that is too long, a folder that may not be read
            raise BadInput(f"no run at '{name}' ({error.strerror})") from None
        if not there:
            hint = shipped.hint(str(name))
            raise BadInput(f"no run at '{name}': {folder.experiment} is missing{hint}; `ls results/*` shows the runs")
        return folder

    @classmethod
    def named(cls, name: str | Path) -> RunFolder:
        """The folder that a name stands for, whatever is in it: of that path; else of a model that ships, or of its copy."""
        path = Path(os.path.expanduser(name))
        try:
            folder = cls(path.resolve() if path.is_symlink() else path)
            if folder.experiment.is_file() or (model := shipped.models().get(str(name))) is None:
                return folder
        except OSError:  # a name that no folder can have
            return cls(path)
        found = cls(model)
        return copy if (copy := found._copy()).experiment.is_file() else found

    @property
    def ships(self) -> bool:
        """Whether it is that of a model that ships with the lab, which is not written to."""
        return self.path.parent == shipped.MODELS

    def writable(self) -> RunFolder:
        """The folder itself; of a model that ships a copy at the place that its run would have in ./results.

        Raises:
            BadInput: the copy cannot be written.
        """
        if not self.ships:
            return self
        copy = self._copy()
        aside = copy.path.with_name(f".partial-{os.getpid()}-{copy.path.name}")
        try:
            if not copy.experiment.is_file():
                shutil.copytree(self.path, aside, copy_function=shutil.copyfile)
                aside.chmod(0o755)  # where the lab is installed it may not be written
                os.replace(aside, copy.path)
        except OSError as error:
            if not copy.experiment.is_file():  # another process may have been faster
                raise BadInput(f"{copy.path} cannot be written ({error.strerror or error}); go where it can") from None
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return copy

    def _copy(self) -> RunFolder:
        """Of the run that made a model that ships, so that another model, of a later lab, has another copy."""
        return RunFolder(RESULTS / self.path.name / read_result(self.result).run)

    def hold(self) -> bool:
        """Take the folder for this process until it is released or the process ends; whether no other one has it.

        Raises:
            BadInput: it cannot be written.
        """
        try:
            self._lock = take_lock(self.path / ".lock")
        except OSError as error:
            raise BadInput(f"{self.path}: cannot be written ({error.strerror}); fix that, or name other --results") from None
        return self._lock is not None

    def release(self) -> None:
        """Let go of the folder before the process ends, as a notebook's may live on."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def clear_partial(self) -> None:
        """Remove what a process left behind that was killed while it wrote."""
        for file in self.path.rglob(".partial-*"):
            file.unlink(missing_ok=True)

    @property
    def finished(self) -> bool:
        """Whether the run has ended, with a result."""
        return self.result.is_file()

    def recorded_environment(self) -> Environment:
        """What environment.json says; empty where it is missing or damaged."""
        try:
            return read_record(self.environment, _ENVIRONMENT)
        except (OSError, BadInput):
            return Environment()

    def recorded_start(self) -> StartingWeights | None:
        """Which weights the run began from; None where it began with none.

        Raises:
            BadInput: the record is damaged.
        """
        return read_record(self.start, _START) if self.start.is_file() else None

    def picture(self, picture: Picture) -> Path | None:
        """The file of a picture; None where it is gone, or lies elsewhere."""
        file = (self.path / picture.file).resolve()
        return file if file.is_file() and file.is_relative_to(self.path.resolve()) else None

    def append_metrics(self, row: Row) -> None:
        """One row of metrics.jsonl."""
        with open(self.metrics, "a", encoding="utf-8") as stream:
            stream.write(to_line(row))
            stream.flush()
            os.fsync(stream.fileno())  # before the checkpoint that counts this row

    def read_metrics(self) -> list[Row]:
        """All rows, up to the last whole one."""
        rows = list[Row]()
        for line in self._metrics_lines():
            try:
                rows.append(from_line(line))
            except ValueError:
                break  # the process died while it wrote this line
        return rows

    def cut_metrics(self, rows: int) -> None:
        """Keep the rows that the checkpoint knows: the resumed run writes the later ones again."""
        known = self._metrics_lines()[: min(rows, len(self.read_metrics()))]
        write_text(self.metrics, "".join(to_json(from_json(line)) + "\n" for line in known))

    def _metrics_lines(self) -> list[str]:
        return read_text(self.metrics, ROWS).splitlines() if self.metrics.exists() else []

    def series(self, name: str) -> list[tuple[int, float]]:
        """The values of that name over training, each with the number of images."""
        return series(self.read_metrics(), name)

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
