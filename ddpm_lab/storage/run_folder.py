"""A run's folder: `results/<experiment>/<time>-<id>/`, and everything a run leaves there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from ddpm_lab.storage.files import write_text, write_whole
from ddpm_lab.storage.json_text import from_json, read_json, to_json
from ddpm_lab.storage.locks import take_lock
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
        self._lock: FileLock | None = None
        self.plugins = path / "plugins"
        self.result = path / "result.json"
        self.report = path / "report.html"
        self.data = path / "data.json"
        self.start = path / "start.json"  # which weights it began from
        self.wandb = path / "wandb.json"  # which W&B run it is; no key

    def __reduce__(self) -> tuple[type[RunFolder], tuple[Path]]:
        return RunFolder, (self.path,)  # the process that it is sent to does not hold it

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
        """Whether the run has come to its end."""
        return self.result.is_file()

    def recorded_threads(self) -> int | None:
        """The number of threads that the run started with, None where environment.json does not say."""
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

    def append_metrics(self, row: Mapping[str, Any]) -> None:
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
