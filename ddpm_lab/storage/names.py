"""The names of experiments, runs, sweeps and suites: each is a folder's name, so each has to be one that a folder can have."""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path

from registry.errors import BadInput

LATEST = "latest"  # the link to the run that was started last
# What the lab itself keeps in a results folder, and in that of a suite, beside the experiments.
RESERVED = {LATEST, "sweeps", "suites", "verdicts", "verdicts.jsonl", "wandb", "wandb.json", "failures.json"}
_ID = re.compile(r"[\w.-]{1,100}")
_RUN = re.compile(r"\d{8}-\d{6}-(?P<id>.+)", re.DOTALL)


def run_name(run_id: str | None) -> str:
    """The name of a new run's folder, `<time>-<id>`; a random id keeps apart runs that start in the same second."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{run_id or secrets.token_hex(3)}"


def id_of(name: str) -> str | None:
    """The id in the name of a run's folder; None where it is the name of something else."""
    found = _RUN.fullmatch(name)
    return found["id"] if found else None


def require_id(text: str, origin: str) -> None:
    """Nothing where a run can have that id, which `origin` gives.

    Raises:
        BadInput: it cannot.
    """
    if not _ID.fullmatch(text):
        raise BadInput(f"{origin}: '{text[:40]}' is not a valid id; use up to 100 letters, digits, `-`, `_` and `.`")


def require_experiment_name(name: str) -> None:
    """Nothing where runs of an experiment of that name can have their folder.

    Raises:
        BadInput: the results folder needs the name, or it leads elsewhere.
    """
    if name.casefold() in RESERVED or not _is_name(name):
        raise BadInput(f"'{name}' cannot be the name of an experiment, because results/ needs it for itself; rename its file")


def require_study_name(file: Path) -> str:
    """The name of a sweep or a suite, which is that of its file.

    Raises:
        BadInput: no folder, or no id of its runs, can have it.
    """
    if not _is_name(file.stem) or not _ID.fullmatch(file.stem) or len(file.stem) > 80:
        raise BadInput(f"{file}: its name becomes part of its runs' ids; use letters, digits, `-`, `_` and `.` within")
    return file.stem


def _is_name(name: str) -> bool:
    return bool(name) and not name.startswith(".") and name.isprintable()
