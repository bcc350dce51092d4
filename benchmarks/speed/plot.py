"""The figure of the speed report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

EVALUATIONS = 20  # of the network for each image, in the benchmark of sampling


def plot(programs: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """Bars of the medians, with least and most."""
    programs = {name: program for name, program in programs.items() if name != "bare"}
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
    places = np.arange(len(programs))
    for axis, key, title in (
        (axes[0], "training", "training, images/s"),
        (axes[1], "sampling", f"sampling with {EVALUATIONS} evaluations, images/s"),
    ):
        medians = [program[key]["median"] for program in programs.values()]
        below = [program[key]["median"] - program[key]["least"] for program in programs.values()]
        above = [program[key]["most"] - program[key]["median"] for program in programs.values()]
        colours = ["#2f6f9f" if name.startswith("lab") else "#b9c4cc" for name in programs]
        axis.barh(places, medians, xerr=[below, above], color=colours, capsize=3)
        axis.set_yticks(places, [program["title"] for program in programs.values()] if axis is axes[0] else [])
        axis.invert_yaxis()
        axis.set_title(title)
        for place, median in zip(places, medians, strict=True):
            axis.text(median, place, f" {median:,.0f}", va="bottom", fontsize=8)
    figure.savefig(file, dpi=110)
    plt.close(figure)
