"""The process beside a run that keeps W&B up to date with the run's folder.

`metrics.jsonl` is the truth, and W&B's step is the number of a row: what W&B lacks is sent, what it has is not, whatever became
of the processes that sent the earlier rows. The W&B client lives in this process alone, so nothing that happens to it, or to a
server that it waits for, touches the run. Standard input brings an `Order`, then the run's exit status when it has ended (or
nothing, when it was killed); standard output takes `at URL`, `failed REASON`, and `stop` when W&B asks the run to.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ddpm_lab.runtime.redaction import discreet
from ddpm_lab.storage.json_text import Json, read_json, write_json
from ddpm_lab.storage.locks import locked
from ddpm_lab.storage.measurement import RunResult, read_result
from ddpm_lab.storage.metrics_log import Row
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.tracking import client

POLL = 1.0  # seconds between two looks at the local log
INIT_PATIENCE, ASK_PATIENCE = 20, 10  # seconds
STOP_POLL = 20  # seconds; the client asks every 15 whether the run shall stop
PREEMPTED = 128 + signal.SIGTERM
LOCK = ".wandb.lock"  # in the run's folder; held by the one process that sends it
UPLOAD_SPEED = 1_000_000  # bytes/s; the weights are waited for as long as a link of this speed takes


@dataclass(frozen=True)
class Order:
    """What an uploader gets from its run."""

    folder: str
    scratch: str  # a folder for the client's own files, which the one who gave the order removes
    mode: Literal["online", "offline"]
    patience: int  # seconds for all that is left to do when the run has ended, the weights not counted
    init: Json  # of wandb.init: id, project, name, group ...

    @property
    def patience_for_all(self) -> int:
        """With the time that the weights take on a slow link."""
        weights = RunFolder(Path(self.folder)).final_weights
        return self.patience + (weights.stat().st_size // UPLOAD_SPEED if weights else 0)


def tracked_as(folder: RunFolder) -> dict[str, str | None]:
    """What wandb.json says of the W&B run (id, project, entity, url, digest of its weights), nothing where there is none."""
    try:
        known = read_json(folder.wandb)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


class Uploader:
    """A W&B run that is kept up to date from the run's folder."""

    def __init__(self, order: Order) -> None:
        """Starts the W&B run, or resumes it where W&B knows it."""
        import wandb

        self._stop_asked = threading.Event()
        self.order, self.folder, self.scratch = order, RunFolder(Path(order.folder)), Path(order.scratch)
        # The run's folder has all that the client would tell, and online all that it would keep.
        settings = client.settings(INIT_PATIENCE, self._ask_to_stop, keeps_log=order.mode != "online")
        self.run: Any = wandb.init(
            mode=order.mode, resume="allow", dir=order.scratch, settings=settings, save_code=False, **order.init
        )
        # A run that W&B knew before has its x-axis already; defining it again does no harm.
        self.run.define_metric("images")
        self.run.define_metric("*", step_metric="images")
        self.known = self.sent = int(self.run.starting_step)  # rows that W&B had, and has
        self._seen: tuple[int, int] | None = None
        run = self.run
        self._remember(id=run.id, project=run.project, entity=run.entity or None, url=run.url)

    def _ask_to_stop(self) -> None:
        self._stop_asked.set()
        print("stop", flush=True)

    def _remember(self, **about: str | None) -> None:
        write_json(self.folder.wandb, tracked_as(self.folder) | about)

    def send_rows(self) -> None:
        """Every row of the local log that W&B has not got yet."""
        if not self.folder.metrics.exists() or self._seen == (stamp := _stamp(self.folder.metrics)):
            return
        for step, row in enumerate(rows := self.folder.read_metrics()):
            if step >= self.sent:
                self.run.log(self._as_logged(row), step=step, commit=True)
        self.sent, self._seen = max(self.sent, len(rows)), stamp

    def _as_logged(self, row: Row) -> Json:
        import wandb

        pictures = {
            name: wandb.Image(str(file), caption=discreet(row.pictures[name].caption)) for name, file in self._pictures(row)
        }
        return {"images": row.images, **discreet(row.values), **pictures}

    def _pictures(self, row: Row) -> list[tuple[str, Path]]:
        return [(name, file) for name, picture in row.pictures.items() if (file := self.folder.picture(picture))]

    def send_pictures(self) -> None:
        """The pictures of rows that W&B had from before, and that have not arrived: rows and pictures travel apart."""
        names = {file.name for file in self._at_server().files()} if self.known else set()
        for step, row in enumerate(self.folder.read_metrics()[: self.known]):
            for key, file in self._pictures(row):
                if (name := client.media_name(key, step, file)) not in names:
                    (self.scratch / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, self.scratch / name)
                    self.run.save(str(self.scratch / name), base_path=str(self.scratch), policy="now")

    def send_result(self) -> None:
        """The result of the finished run: each value with its fingerprint, and the weights."""
        result = read_result(self.folder.result)
        values = discreet(result.by_name)
        self.run.summary.update(values)
        weights = self.folder.final_weights
        if weights is None or self.order.mode == "offline":
            return  # an offline run would keep a second copy of the weights, with its path
        import wandb

        experiment = re.sub(r"[^\w.-]", "-", self.folder.path.resolve().parent.name)
        artifact = wandb.Artifact(
            f"{experiment}-{weights.stem}", type="model", metadata={"run": self.folder.id, "images": result.images, **values}
        )
        artifact.add_file(str(weights), skip_cache=True)
        if tracked_as(self.folder).get("weights") == artifact.digest:
            return  # sent again, an old version would become the latest
        aliases = ["latest", "best"] if is_best(self.folder, result) else ["latest"]
        self.run.log_artifact(artifact, aliases=aliases).wait(timeout=self.order.patience_for_all)
        self._remember(weights=artifact.digest)

    def close(self, status: int) -> None:
        """End the W&B run with that exit status, and make sure that W&B has everything.

        Raises:
            RuntimeError: it has not.
        """
        # A machine that was taken away: a sweep hands the trial out again. Hyperband ends a trial by the same signal; the
        # client is the one who knows, a little later.
        if status == PREEMPTED and not (os.environ.get("WANDB_SWEEP_ID") and self._stop_asked.wait(STOP_POLL)):
            self.run.mark_preempting()
        self.run.finish(exit_code=status)
        if self.order.mode == "offline":
            self._keep_offline()
            return
        found, deadline = self._at_server(), time.monotonic() + ASK_PATIENCE
        while client.rows_of(found) < self.sent or found.state == "running":
            if time.monotonic() > deadline:
                raise RuntimeError(f"it has {client.rows_of(found)} rows of {self.sent}, and the run is '{found.state}' there")
            time.sleep(0.5)
            found.load(force=True)

    def _at_server(self) -> Any:
        import wandb

        return wandb.Api(timeout=ASK_PATIENCE).run(f"{self.run.entity}/{self.run.project}/{self.run.id}")

    def _keep_offline(self) -> None:
        """What `wandb sync` takes: this process has written all rows, so the folder of an earlier one has nothing more."""
        kept = self.folder.path / "wandb"
        shutil.rmtree(kept, ignore_errors=True)
        offline = client.offline_folder(self.scratch)
        kept.mkdir()
        shutil.move(str(offline), str(kept / offline.name))


def is_best(folder: RunFolder, result: RunResult) -> bool:
    """Whether no finished run of the same experiment beside it has a lower main metric (the first) by the same protocol."""
    mine = _main_values(result)
    if not mine:
        return False
    fingerprint, value = next(iter(mine.items()))
    for other in folder.path.resolve().parent.glob("*/result.json"):
        try:
            theirs = _main_values(read_result(other))
        except (OSError, ValueError):
            continue  # a damaged run is left out of the comparison
        if theirs.get(fingerprint, value) < value:
            return False
    return True


def _main_values(result: RunResult) -> dict[str, float]:
    """By fingerprint."""
    return {line.fingerprint: line.value for line in result.of_main if line.value is not None}


def _stamp(file: Path) -> tuple[int, int]:
    about = file.stat()
    return about.st_mtime_ns, about.st_size


def _upload(order: Order, ended: threading.Event, status: list[int]) -> None:
    # A run that was killed and resumed has two uploaders for a moment: the second waits until the first releases the lock.
    with locked(Path(order.folder) / LOCK):
        uploader = Uploader(order)
        if order.mode == "online":
            print("at", uploader.run.url, flush=True)
        while not ended.wait(POLL):
            uploader.send_rows()
        uploader.send_rows()
        uploader.send_pictures()
        if uploader.folder.finished:
            uploader.send_result()
        uploader.close(status[0])


def main() -> int:
    """Upload until the run has ended and W&B has everything: 0; or say in one line why it has not: 1."""
    order = Order(**json.loads(sys.stdin.readline()))
    # The client takes these from the environment alone. Its files would contain the path of the user's home.
    os.environ |= {"WANDB_DATA_DIR": order.scratch, "WANDB_CACHE_DIR": order.scratch}
    # It makes folders when it is imported, and removes them at an exit that this process does not take.
    tempfile.tempdir = order.scratch
    ended, status = threading.Event(), [1]

    def wait_for_the_end() -> None:
        if line := sys.stdin.readline():
            status[0] = int(line)
        signal.alarm(order.patience_for_all)  # ends this process, whatever the client waits for
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    try:
        _upload(order, ended, status)
    except Exception as error:
        print("failed", discreet(" ".join(str(error).split())[:200]) or type(error).__name__, flush=True)
        return 1
    finally:
        shutil.rmtree(order.scratch, ignore_errors=True)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # past the client's own waiting at exit
