"""The three places parts come from: the house, installed packages, and files that an experiment names."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import sys
from pathlib import Path

from registry.backbones import BACKBONES
from registry.datasets import DATASETS
from registry.errors import BadInput
from registry.features import FEATURES
from registry.grids import GRIDS
from registry.guidance import GUIDANCE
from registry.levels import LEVELS
from registry.losses import LOSSES
from registry.samplers import SAMPLERS
from registry.schedules import SCHEDULES
from registry.shelf import Shelf
from registry.targets import TARGETS
from registry.variances import VARIANCES
from registry.weightings import WEIGHTINGS

ENTRY_POINTS = "ddpm_lab.parts"

SHELVES: dict[str, Shelf] = {
    "schedules": SCHEDULES,
    "levels": LEVELS,
    "targets": TARGETS,
    "losses": LOSSES,
    "weightings": WEIGHTINGS,
    "variances": VARIANCES,
    "backbones": BACKBONES,
    "samplers": SAMPLERS,
    "grids": GRIDS,
    "guidance": GUIDANCE,
    "datasets": DATASETS,
    "features": FEATURES,
}

_loaded: set[str] = set()


def load_installed() -> None:
    """Import what installed packages offer under the entry-point group `ddpm_lab.parts`, once.

    Raises:
        BadInput: one of them fails; it is named.
    """
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if entry.value not in _loaded:
            _loaded.add(entry.value)
            try:
                entry.load()
            except Exception as error:  # a plugin may die of anything
                owner = entry.dist.name if entry.dist else "unknown"
                raise BadInput(f"parts '{entry.value}' of the package '{owner}' cannot be loaded: {_reason(error)}") from error


def load_file(file: Path) -> None:
    """Run a plugin file, once.

    Raises:
        BadInput: it is missing, or raises; it is named, with the line where it failed.
    """
    file = file.resolve()
    if not file.is_file():
        raise BadInput(f"no plugin file '{file}'")
    # By content, so that the copy that a run keeps of its plugin is the plugin.
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest in _loaded:
        return
    _loaded.add(digest)
    name = f"ddpm_lab_plugin_{file.stem}_{digest[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise BadInput(f"plugin '{file}' is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # nothing is left beside the user's file
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a plugin may die of anything
        trace, line = error.__traceback__, 0
        while trace is not None:
            line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == str(file) else line
            trace = trace.tb_next
        raise BadInput(f"plugin '{file}' fails{f' on line {line}' if line else ''}: {_reason(error)}") from error
    finally:
        sys.dont_write_bytecode = writes


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
