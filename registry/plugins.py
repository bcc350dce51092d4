"""The three places parts come from: the lab itself, installed packages, and files that an experiment names."""

from __future__ import annotations

import importlib.metadata
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from registry.averages import AVERAGES
from registry.backbones import BACKBONES
from registry.beside import Plugin, read_plugin, run_plugin
from registry.couplings import COUPLINGS
from registry.datasets import DATASETS
from registry.errors import BadInput, kind_and_reason
from registry.features import FEATURES
from registry.grids import GRIDS
from registry.guidance import GUIDANCE
from registry.levels import LEVELS
from registry.losses import LOSSES
from registry.metrics import METRICS
from registry.objectives import OBJECTIVES
from registry.optimizers import OPTIMIZERS
from registry.registry import Registry
from registry.samplers import SAMPLERS
from registry.schedules import SCHEDULES
from registry.targets import TARGETS
from registry.variances import VARIANCES
from registry.weightings import WEIGHTINGS

ENTRY_POINTS = "ddpm_lab.parts"

# In the order of `ddpm-lab list`. A new category needs its folder, its line here, and its check in ddpm_lab/testing.
REGISTRIES: dict[str, Registry[Any, Any]] = {
    "objectives": OBJECTIVES,
    "couplings": COUPLINGS,
    "schedules": SCHEDULES,
    "levels": LEVELS,
    "targets": TARGETS,
    "losses": LOSSES,
    "weightings": WEIGHTINGS,
    "variances": VARIANCES,
    "backbones": BACKBONES,
    "optimizers": OPTIMIZERS,
    "averages": AVERAGES,
    "samplers": SAMPLERS,
    "grids": GRIDS,
    "guidance": GUIDANCE,
    "datasets": DATASETS,
    "features": FEATURES,
    "metrics": METRICS,
}
SHELVES = REGISTRIES  # the name that they had before

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


def load_file(file: Path, recorded: Callable[[Path], str] | None = None) -> Plugin:
    """Run a plugin file, once, with the modules beside it that it imports. Where `recorded` gives the SHA-256 of each file as
    somebody has written it down, only if all of them are those.

    Raises:
        BadInput: one is missing, is another one, or raises; it is named, with the line where it failed.
    """
    file = file.resolve()
    try:
        plugin = read_plugin(file)
    except OSError:
        raise BadInput(f"no plugin file '{file}'") from None
    for name, digest in plugin.digests.items() if recorded else ():
        if file.with_name(name).resolve().parent != file.parent:
            raise BadInput(f"'{file.with_name(name)}' is outside of the run's folder; a run's plugins are the copies in it")
        if recorded and (expected := recorded(file.with_name(name))) != digest:
            raise BadInput(
                f"'{file.with_name(name)}' is no longer the plugin that the run recorded (SHA-256 {digest[:12]}..., not"
                f" {expected[:12]}...); put the old one back"
            )
    # By content, so that the copy that a run keeps of its plugin is the plugin.
    if plugin.digest in _loaded:
        return plugin
    try:
        run_plugin(plugin)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may die of anything
        raise BadInput(f"plugin '{file}' fails{_place(error, plugin)}: {kind_and_reason(error)}") from error
    _loaded.add(plugin.digest)
    return plugin


def _place(error: BaseException, plugin: Plugin) -> str:
    """` on line 5`, or ` in 'helper.py' on line 5`: the last of its own lines that the error passed through."""
    files = {str(plugin.file.with_name(name)): name for name in plugin.sources}
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if (name := files.get(frame.f_code.co_filename)) is not None:
            return f"{'' if name == plugin.file.name else f' in {name!r}'} on line {line}"
    return ""
