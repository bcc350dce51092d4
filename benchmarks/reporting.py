"""How the benchmarks say what they found: report.json, report.md from a template, and curves over a logarithmic axis."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from ddpm_lab.config.load import load_recipe
from ddpm_lab.runtime.device import pick_device, pick_precision
from ddpm_lab.runtime.environment import describe_environment
from ddpm_lab.runtime.host import pick_threads, settle
from ddpm_lab.runtime.redaction import discreet
from ddpm_lab.storage.json_text import write_json

RECIPE = "cosine_l2"  # the lab's default


def surroundings(device: torch.device | None = None) -> dict[str, Any]:
    """The machine, set up as the default recipe has it, and described."""
    device = device or pick_device(None)
    train = load_recipe(RECIPE, []).experiment.train
    settle(device, pick_threads(train.threads))
    return describe_environment(device, pick_precision("auto", device), train.memory_format, train.compile)


def write_report(folder: Path, template: str, found: Mapping[str, Any]) -> None:
    """report.json has all that was found, report.md what `template`, a file beside this one, makes of it."""
    found = discreet(found)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", found)
    source = Path(__file__).with_name(template).read_text()
    (folder / "report.md").write_text(jinja2.Template(source, trim_blocks=True, lstrip_blocks=True).render(found))
    print(f"report: {folder / 'report.md'}")


def save_distances(axis: Axes, floor: float, across: str, n: int, file: Path) -> None:
    """Finish a figure of FID curves on logarithmic axes, with the floor below them."""
    axis.axhline(floor, linestyle=":", color="gray", label="floor: held-out images")
    axis.set(xscale="log", yscale="log", xlabel=across, ylabel=f"FID, fashion_cnn, N = {n:,}")
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))  # outside, so that it hides no point
    axis.grid(alpha=0.2, which="both")
    file.parent.mkdir(parents=True, exist_ok=True)
    axis.figure.savefig(file, dpi=110)
    plt.close("all")
