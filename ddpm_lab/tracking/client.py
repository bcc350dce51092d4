"""What the lab needs of W&B's client beyond its documented interface, for the one minor version that setup.cfg allows.

tests/tracking/test_client.py asks the real client, and fails when another version does any of it otherwise.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from registry.files import PICTURE, read_file


def settings(patience: float | None = None, stop: Callable[[], None] | None = None, keeps_log: bool = True) -> Any:
    """A `wandb.Settings` that tells neither host, user, paths nor the remote of the repository.

    `patience` is how many seconds `wandb.init` may take, `stop` is called when W&B asks the run to stop, and without
    `keeps_log` the client writes no file of all that it sends.
    """
    import wandb

    found = wandb.Settings(
        silent=True, console="off", disable_git=True, disable_code=True, host="", x_disable_meta=True,
        x_disable_machine_info=True, x_skip_transaction_log=not keeps_log,
    )  # fmt: skip
    if patience is not None:
        found.init_timeout = patience
    if stop is not None:
        found.stop_fn = stop
    return found


def media_name(key: str, step: int, file: Path) -> str:
    """Where the client puts the picture of a row among a run's files: the name that the row at W&B holds.

    So long as no step is left out: the client counts for itself which comes next, and takes that number.
    """
    digest = hashlib.sha256(read_file(file, PICTURE)).hexdigest()[:20]
    return f"media/images/{key}_{step}_{digest}{file.suffix}"


def offline_folder(scratch: Path) -> Path:
    """The folder that an offline run left below `dir=scratch`, which `wandb sync` takes; what has paths in it is removed."""
    (offline,) = (scratch / "wandb").glob("offline-run-*")
    for name in ("logs", "tmp"):
        shutil.rmtree(offline / name, ignore_errors=True)
    return offline


def rows_of(run: Any) -> int:
    """How many rows W&B has of a run, as `wandb.Api().run(...)` gives it."""
    return int(run.historyLineCount)
