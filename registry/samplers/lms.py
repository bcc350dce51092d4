"""The linear multistep method."""

import numpy as np
import torch
from torch import Tensor

from registry.options import Count
from registry.samplers import SAMPLERS, Denoise, Grid, Noise, SamplerTraits


@SAMPLERS.register("lms", SamplerTraits(order=lambda options: options["order"]))
def lms(denoise: Denoise, grid: Grid, noise: Noise, *, order: Count = 4) -> Tensor:
    """Adams-Bashforth on the probability flow, in sigma / alpha (k-diffusion's LMS; Liu et al. 2022, section 3.3).

    The polynomial through the last `order` slopes is integrated exactly. One evaluation a step; it starts at order 1.
    """
    x = grid.start(noise())
    slopes: list[Tensor] = []
    places: list[float] = []
    for step in grid:
        x0, eps, _ = denoise(x, step.level)
        if step.from_noise:
            x = step.alpha_s * x0 + step.sigma_s * eps
            continue
        slopes, places = [*slopes, eps][-order:], [*places, float(step.sigma_t / step.alpha_t)][-order:]
        shares = _shares(places, places[-1], float(step.sigma_s / step.alpha_s))
        moved = torch.stack([share * slope for share, slope in zip(shares, slopes, strict=True)]).sum(dim=0)
        x = step.alpha_s * (x / step.alpha_t + moved)
    return x


def _shares(places: list[float], start: float, end: float) -> list[float]:
    """The integral from start to end of each Lagrange polynomial over these places, by a Gauss rule that is exact for them."""
    nodes, weights = np.polynomial.legendre.leggauss(len(places) // 2 + 1)
    at = start + (end - start) * (nodes + 1) / 2
    shares = []
    for i, mine in enumerate(places):
        others = [place for j, place in enumerate(places) if j != i]
        values = np.prod([(at - other) / (mine - other) for other in others], axis=0) if others else np.ones_like(at)
        shares.append(float((weights * values).sum() * (end - start) / 2))
    return shares
