"""The three places parts come from: the house, installed packages, and files that an experiment names."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
import types
from pathlib import Path

from registry.averages import AVERAGES
from registry.backbones import BACKBONES
from registry.datasets import DATASETS
from registry.errors import BadInput, kind_and_reason
from registry.features import FEATURES
from registry.files import PLUGIN, read_file, required
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
    "averages": AVERAGES,
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
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a plugin may die of anything
                owner = entry.dist.name if entry.dist else "unknown"
                text = f"parts '{entry.value}' of the package '{owner}' cannot be loaded: {kind_and_reason(error)}"
                raise BadInput(text) from error


def load_file(file: Path, expected: str | None = None) -> None:
    """Run a plugin file, once; where the SHA-256 of its content is known, only if it is that.

    Raises:
        BadInput: it is missing, is another one, or raises; it is named, with the line where it failed.
    """
    file = file.resolve()
    try:
        content = read_file(required(file, PLUGIN), PLUGIN)
    except OSError:
        raise BadInput(f"no plugin file '{file}'") from None
    # By content, so that the copy that a run keeps of its plugin is the plugin.
    digest = hashlib.sha256(content).hexdigest()
    if expected not in (None, digest):
        raise BadInput(
            f"'{file}' is no longer the plugin that the run recorded (SHA-256 {digest[:12]}..., not {expected[:12]}...);"
            " put the old one back"
        )
    if digest in _loaded:
        return
    module = types.ModuleType(f"ddpm_lab_plugin_{file.stem}_{digest[:8]}", f"The plugin {file}.")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    try:
        # What was hashed is what runs: the import system might take a .pyc that lies beside it, or leave one there.
        exec(compile(content, file, "exec"), vars(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may die of anything
        trace, line = error.__traceback__, 0
        while trace is not None:
            line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == str(file) else line
            trace = trace.tb_next
        raise BadInput(f"plugin '{file}' fails{f' on line {line}' if line else ''}: {kind_and_reason(error)}") from error
    _loaded.add(digest)
