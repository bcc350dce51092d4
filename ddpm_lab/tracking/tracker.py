"""W&B beside the run's own files: never a prompt, never a lost run, and what W&B missed can be sent later."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from ddpm_lab.config.schema import Track
from ddpm_lab.config.yaml_reader import Tree, read_mapping
from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.redaction import discreet
from ddpm_lab.storage.json_text import Json
from ddpm_lab.storage.locks import take_lock
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.tracking.login import logged_in, mode_of
from ddpm_lab.tracking.uploader import LOCK, Order, tracked_as
from registry.errors import BadInput
from registry.problems import first_problem

RUN_PATIENCE, SYNC_PATIENCE = 30, 600  # seconds that a run, and `sync`, waits for W&B at its end


class Tracker:
    """The uploader of a run, where the run is tracked. What goes wrong with it prints one line, and no run fails of it."""

    def __init__(self, track: Track, folder: RunFolder, config: Tree) -> None:
        """`config` is the resolved experiment."""
        self.folder, self.mode = folder, mode_of(track)
        self._uploader: _Uploader | None = None
        if self.mode != "disabled":
            known = tracked_as(folder)
            run_id = os.environ.get("WANDB_RUN_ID") or known.get("id")
            init = _describe(folder, track, config, known, run_id)
            try:
                self._uploader = _Uploader(folder, self.mode, init, RUN_PATIENCE, self._warn, self._stop)
            except OSError as error:
                self._warn(f"it could not be started ({error.strerror})")

    @property
    def where(self) -> str:
        """Where the run can be looked at."""
        if self.mode == "offline":
            return f"offline; `ddpm-lab sync {self.folder.path}` uploads it"
        return "online" if self.mode == "online" else "not tracked"

    def finish(self, status: int) -> None:
        """Give W&B a moment to take the rest; `status` is what the run exits with."""
        if self._uploader is not None:
            self._uploader.end(status)

    def _stop(self) -> None:
        say("W&B: asks this run to stop")
        os.kill(os.getpid(), signal.SIGTERM)

    def _warn(self, trouble: str) -> None:
        say(f"W&B: {trouble}; the run's folder has everything, and `ddpm-lab sync {self.folder.path}` sends it")


def sync(name: str) -> None:
    """Bring W&B up to date from a run's folder alone.

    Raises:
        BadInput: there is no such run, nobody is logged in, or the run is being sent by another process.
        RuntimeError: W&B did not take it.
    """
    folder = RunFolder.open(name).writable()
    experiment = read_mapping(folder.experiment)
    try:
        track = Track.model_validate(experiment.get("track", {}))
    except ValidationError as error:
        raise BadInput(f"{folder.experiment}: track: {first_problem(error, Track)}") from None
    if not logged_in():
        raise BadInput("nobody is logged in to W&B; `wandb login`, or set WANDB_API_KEY, and try again")
    if (lock := take_lock(folder.path / LOCK)) is None:
        raise BadInput(f"{folder.path}: another process is sending this run to W&B; wait until it has ended")
    lock.release()  # for the uploader, which takes it
    known, troubles = tracked_as(folder), list[str]()
    init = _describe(folder, track, experiment, known, known.get("id") or os.environ.get("WANDB_RUN_ID"))
    _Uploader(folder, "online", init, SYNC_PATIENCE, troubles.append).end(0 if folder.finished else 1)
    if troubles:
        raise RuntimeError(f"W&B: {troubles[0]}; `ddpm-lab sync {folder.path}` tries again")
    say(f"W&B has all of {folder.path}")


class _Uploader:
    """The other end of `ddpm_lab.tracking.uploader`."""

    def __init__(
        self, folder: RunFolder, mode: Literal["online", "offline"], init: Json, patience: int, warn: Callable[[str], None],
        stop: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """`warn` is called once, when W&B will not get everything; `stop`, when W&B asks the run to stop."""
        self._warn, self._warned, self._stop, self._ended = warn, False, stop, False
        # Not below the user's home, whose path the client writes into what it uploads.
        place = tempfile.gettempdir()
        self._scratch = tempfile.mkdtemp(prefix="ddpm_lab-", dir="/tmp" if discreet(place) != place else place)
        self._order = Order(str(folder.path), self._scratch, mode, patience, init)
        here = str(Path(__file__).resolve().parents[2])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ddpm_lab.tracking.uploader"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, start_new_session=True,  # Ctrl-C is for the run, which then ends its uploader
            env={**os.environ, "WANDB_SILENT": "true", "WANDB_MODE": mode,
                 "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))},
        )  # fmt: skip
        self._tell(json.dumps(asdict(self._order)))
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def end(self, status: int) -> None:
        """Wait until it has sent all that is left, or has no more time."""
        self._ended = True
        self._tell(str(status))
        patience = self._order.patience_for_all
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience + 5)
        finally:  # Ctrl-C included
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        self._listener.join(5)
        shutil.rmtree(self._scratch, ignore_errors=True)
        if code != 0 and not self._warned:
            self._warn(f"it did not take everything within {patience} seconds")

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            kind, _, text = line.strip().partition(" ")
            if kind == "at":
                say(f"W&B: {text}")
            elif kind == "stop" and not self._ended:
                self._stop()
            elif kind == "failed":
                self._warned = True
                self._warn(text)


def _describe(folder: RunFolder, track: Track, config: Tree, known: Mapping[str, str | None], run_id: str | None) -> Json:
    """The arguments of `wandb.init`. What the user may have changed at W&B stays as it is when a run resumes."""
    env = os.environ
    fixed = {
        "id": run_id or folder.id,
        "project": known.get("project") or track.project or env.get("WANDB_PROJECT") or "ddpm_lab",
        "entity": known.get("entity") or track.entity,
        "config": config,
    }
    if known.get("url"):
        return discreet(fixed)
    named = {
        "name": track.run_name or env.get("WANDB_NAME") or folder.id,
        "group": track.group or env.get("WANDB_RUN_GROUP") or folder.path.resolve().parent.name,
        "tags": track.tags or None,
        "notes": track.notes,
        "job_type": track.job_type or env.get("WANDB_JOB_TYPE") or "train",
    }
    return discreet(fixed | named)
