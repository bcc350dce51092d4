"""How the benchmarks report: benchmarks/reports/NAME/report.json, report.md from the template in benchmarks/NAME/, curves.

python -m benchmarks.common.reporting NAME ...      write report.md again from what was measured and the template of today
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import asdict
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
from ddpm_lab.storage.json_text import read_json, write_json

RECIPE = "cosine_l2"  # the lab's default
REPORTS = Path("benchmarks/reports")
TEMPLATES = Path(__file__).parent.parent


def surroundings(device: torch.device | None = None) -> dict[str, Any]:
    """The machine, set up as the default recipe has it, and described."""
    device = device or pick_device(None)
    train = load_recipe(RECIPE, []).experiment.train
    settle(device, pick_threads(train.threads))
    return asdict(describe_environment(device, pick_precision("auto", device), train.memory_format, train.compile))


def last_report(name: str) -> dict[str, Any]:
    """What benchmark `name` last found; empty before its first measurement."""
    file = REPORTS / name / "report.json"
    return read_json(file) if file.is_file() else {}


def write_report(name: str, found: Mapping[str, Any]) -> None:
    """Write all that was found to report.json, and the page to report.md."""
    found = discreet(found)
    folder = REPORTS / name
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", found)
    write_page(name, found)


def write_page(name: str, found: Mapping[str, Any]) -> None:
    """report.md, from the benchmark's template."""
    source = (TEMPLATES / name / "report.md.jinja").read_text()
    file = REPORTS / name / "report.md"
    file.write_text(jinja2.Template(source, trim_blocks=True, lstrip_blocks=True).render(found))
    print(f"report: {file}")


def write_table(page: Path, mark: str, table: str) -> None:
    """Put a table between `<!-- mark -->` and `<!-- end of mark -->` of a page."""
    between = rf"(<!-- {mark} -->\n).*(<!-- end of {mark} -->)"
    page.write_text(re.sub(between, rf"\g<1>{table}\g<2>", page.read_text(), flags=re.S))


def save_distances(axis: Axes, floor: float, x_label: str, n: int, file: Path) -> None:
    """Finish a figure of FID curves on logarithmic axes, with the floor below them."""
    axis.axhline(floor, linestyle=":", color="gray", label="floor: held-out images")
    axis.set(xscale="log", yscale="log", xlabel=x_label, ylabel=f"FID, fashion_cnn, N = {n:,}")
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))  # outside, so that it hides no point
    axis.grid(alpha=0.2, which="both")
    file.parent.mkdir(parents=True, exist_ok=True)
    axis.figure.savefig(file, dpi=110)
    plt.close("all")


if __name__ == "__main__":
    for benchmark in sys.argv[1:]:
        write_page(benchmark, last_report(benchmark))
