"""Make docs/gallery: every schedule's and weighting's curve, and the images of every sampler from the same noise.

python -m benchmarks.assets.gallery results/cosine_l2/...
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

import ddpm_lab
from ddpm_lab.storage.images import save_grid
from registry.plugins import REGISTRIES
from registry.weightings import per_log_snr

FOLDER = Path("docs/gallery")
STEPS = (5, 10, 20, 50)
IMAGES = 6
GRIDS = {
    "dpmpp_3m_sde": "log_snr",
    "dpmpp_2m_sde": "log_snr",
}  # these want even steps of the log SNR; the others, of the noise level
STD = 0.706  # of Fashion-MNIST


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a trained run whose network the samplers share")
    run = ddpm_lab.load(parser.parse_args().run)
    FOLDER.mkdir(parents=True, exist_ok=True)
    schedules(FOLDER / "schedules.png")
    weightings(FOLDER / "weightings.png")
    for part in REGISTRIES["samplers"]:
        sampler(run, part.name, FOLDER / f"{part.name}.png")


def schedules(file: Path) -> None:
    """log SNR over the path, T = 1000."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    level = torch.linspace(0, 999, 2000, dtype=torch.float64)
    for number, part in enumerate(REGISTRIES["schedules"]):
        path = REGISTRIES["schedules"].configure(part.name, {})(1000)
        axes.plot(level / 999, path.log_snr(level), label=part.name, linestyle="-" if number < 5 else "--")
    axes.set(xlabel="noise level / (T - 1)", ylabel="log SNR", ylim=(-16, 16))
    _save(figure, axes, file)


def weightings(file: Path) -> None:
    """The weight of the error of x_0 over the log SNR, each divided by its own at log SNR 0; on the cosine schedule."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    path = REGISTRIES["schedules"].configure("cosine", {})(1000)
    level = torch.linspace(1, 998, 1000, dtype=torch.float64)
    log_snr, slope = path.log_snr(level), path.log_snr_slope(level) * (path.steps - 1)
    middle = int(log_snr.abs().argmin())
    for number, part in enumerate(REGISTRIES["weightings"]):
        made = REGISTRIES["weightings"].configure(part.name, {})(STD)
        if isinstance(made, torch.nn.Module):
            continue  # learned with the network
        weight = made(log_snr, slope)
        weight = weight / path.uniform_density(level) if per_log_snr(made) else weight
        # On a variance-preserving path the error of eps is that of x_0 times the root of the SNR; so is `constant` of epsilon.
        weight = weight * log_snr.exp() if made.space != "x0" else weight
        axes.plot(log_snr, weight / weight[middle], label=part.name, linestyle="-" if number < 4 else "--")
    axes.set(
        xlabel="log SNR", ylabel="weight of the error of x_0, 1 at log SNR 0", yscale="log", xlim=(-10, 10), ylim=(1e-4, 1e4)
    )
    _save(figure, axes, file)


def sampler(run: ddpm_lab.Run, name: str, file: Path) -> None:
    """A row for each number of steps, the same noise in each column."""
    rows = []
    for steps in STEPS:
        rows.append(run.sample(IMAGES, sampler=name, schedule=GRIDS.get(name, "uniform"), steps=steps, seed=1))
    save_grid(file, torch.cat(rows), columns=IMAGES)


def _save(figure: Figure, axes: Any, file: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    axes.legend(frameon=False, ncols=2)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
