"""Points in the plane, drawn: their density, the vector field that moves them, and their paths from noise to data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpm_lab.diffusion.process import to_unit
from ddpm_lab.diffusion.sampling import ImageSampler
from ddpm_lab.runtime.device import autocast
from ddpm_lab.runtime.seeding import ImageNoise
from ddpm_lab.storage.files import write_whole

POINTS, DRAWN = 2000, 60  # samples, and those of them whose paths are drawn
SIDE, HALF = 21, 1.1  # arrows in a row, and half the width of the field; the paths begin further out
TAU = 0.25  # of the field: by then it shows where the data are
SAMPLED, REAL = "#1f6fd0", "#9a9a9a"


def draw_plane(file: Path, sampler: ImageSampler, data: Tensor, seed: int) -> None:
    """A PNG of three pictures of a network that samples points; `data` are real ones, uint8 [N, 2, 1, 1].

    All are in the coordinates of the straight path, z = x_t / (alpha + sigma) and tau = sigma / (alpha + sigma), which every
    noise path has: noise at tau = 1, data at tau = 0.
    """
    from matplotlib.figure import Figure  # slow to import

    data = to_unit(data[:POINTS])[:, :, 0, 0]
    walked = paths(sampler, POINTS, seed)
    figure = Figure(figsize=(10.5, 3.9), layout="constrained")
    density, field, ways = figure.subplots(1, 3)
    density.scatter(*data.T, s=3, color=REAL, linewidths=0, label="data")
    density.scatter(*walked[-1].T, s=3, color=SAMPLED, linewidths=0, label="samples")
    density.legend(loc="upper right", frameon=False, markerscale=4, fontsize="small")
    _frame(density, f"density: {len(walked[-1]):,} samples", HALF)
    places, velocity, tau = vector_field(sampler)
    noise = ImageNoise(seed, range(len(data)), (2,))()
    field.scatter(*((1 - tau) * data + tau * noise).T, s=3, color=REAL, alpha=0.35, linewidths=0)
    speed = velocity.norm(dim=1, keepdim=True)  # the colour; an arrow is a direction
    arrows = velocity / speed.clamp(min=1e-9)
    field.quiver(*places.T, *arrows.T, speed[:, 0], cmap="viridis", angles="xy", pivot="mid", scale=SIDE + 4, width=0.005)
    _frame(field, f"vector field at tau = {tau:.2g}", HALF)
    for way in walked[:, :DRAWN].unbind(1):
        ways.plot(*way.T, color=SAMPLED, linewidth=0.7, alpha=0.6)
    ways.scatter(*walked[0, :DRAWN].T, s=8, color=REAL, linewidths=0, zorder=3, label="noise")
    ways.scatter(*walked[-1, :DRAWN].T, s=8, color="black", linewidths=0, zorder=3, label="samples")
    ways.legend(loc="upper right", frameon=False, fontsize="small")
    _frame(ways, f"paths, {detour(walked):.2f} times as long as straight", 2.4)
    write_whole(file, lambda path: figure.savefig(path, format="png", dpi=100))


def paths(sampler: ImageSampler, count: int, seed: int) -> Tensor:
    """Where so many points are at each level that the sampler visits, and at the end: [levels + 1, count, 2], on the CPU."""
    seen: dict[float, Tensor] = {}
    path = sampler.procedure.grid.path

    def look(x: Tensor, level: Tensor) -> None:
        alpha, sigma = path.at(level)
        seen[float(level)] = (x / (alpha + sigma)).float().cpu()  # the last at a level is where the next step begins

    end = sampler.unrounded(range(count), seed, sampler.labels(count), look)
    return torch.stack([*seen.values(), end.float().cpu()])[..., 0, 0]


def detour(walked: Tensor) -> float:
    """How long the paths [steps, N, 2] are in all, as a multiple of the straight ways from their beginnings to their ends."""
    return float(walked.diff(dim=0).norm(dim=-1).sum() / (walked[-1] - walked[0]).norm(dim=-1).sum())


def vector_field(sampler: ImageSampler) -> tuple[Tensor, Tensor, float]:
    """Places [SIDE^2, 2], where the network moves them, x_0 - eps = -dz / dtau, and tau: TAU, or the path's nearest to it."""
    path, diffusion = sampler.procedure.grid.path, sampler.model.diffusion
    level = path.level(torch.tensor(2 * math.log((1 - TAU) / TAU), dtype=torch.float64))
    alpha, sigma = path.at(level)
    side = torch.linspace(-HALF, HALF, SIDE)
    places = torch.cartesian_prod(side, side)
    with torch.inference_mode(), autocast(sampler.precision, sampler.device):
        denoise = sampler.procedure.denoise(diffusion, sampler.network, None)
        x0, eps, _ = denoise(((alpha + sigma) * places[:, :, None, None]).to(sampler.device), level)
    return places, (x0 - eps).float().cpu()[:, :, 0, 0], float(sigma / (alpha + sigma))


def _frame(axes: Any, title: str, reach: float) -> None:
    axes.set_title(title, fontsize="medium")
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.tick_params(labelsize="small")
