"""UniPC."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from registry.samplers import SAMPLERS, Denoise, Grid, Noise, SamplerTraits, Step

Known = tuple[Tensor, Tensor]  # x0, and the lambda = log(alpha / sigma) where it was seen


@SAMPLERS.register("unipc", SamplerTraits(order=lambda options: options["order"] + options["corrector"]))
def unipc(
    denoise: Denoise, grid: Grid, noise: Noise, *, order: Annotated[int, Field(ge=1, le=4)] = 2, corrector: bool = True
) -> Tensor:
    """UniPC: each evaluation also corrects the step that led to it (Zhao et al. 2023, algorithms 1 and 2, of x_0).

    `order` p of the predictor; with the corrector it is p + 1. One evaluation a step; it starts at order 1.
    """
    x = grid.start(noise())
    past: list[Known] = []  # oldest first
    taken: tuple[Tensor, Step] | None = None  # where the step before started, and that step
    for step in grid:
        x0, when = denoise(x, step.level).x0, torch.log(step.alpha_t / step.sigma_t)
        if corrector and taken is not None:
            x = _moved(*taken, past, (x0, when))
        past = [*past, (x0, when)][-order:]
        taken = (x, step) if step.is_finite else None
        x = _moved(x, step, past if step.is_finite else past[-1:], None)
        past = [] if step.from_noise else past
    return x


def _moved(x: Tensor, step: Step, past: list[Known], end: Known | None) -> Tensor:
    """The exact solution where x0 is the polynomial, over lambda, through what is known of it; `end` is where the step leads.

    The matrix equation of Zhao et al. 2023, theorem 3.1, solved as it stands: there B(h) cancels.
    """
    (x0, now), h = past[-1], step.h
    moved = (step.sigma_s / step.sigma_t) * x - (step.alpha_s * torch.expm1(-h)) * x0
    others = [*past[:-1], *([end] if end else [])]
    if not others:
        return moved
    places = torch.stack([(when - now) / h for _, when in others])  # in units of the step: 0 here, 1 at its end
    powers = torch.stack([places**k for k in range(len(others))])
    integrals = [-torch.expm1(-h) / h]  # of u^k exp(-h (1 - u)) from 0 to 1
    for k in range(1, len(others) + 1):
        integrals.append((1 - k * integrals[-1]) / h)
    shares = step.alpha_s * h * torch.linalg.solve(powers, torch.stack(integrals[1:]))
    for (other, _), place, share in zip(others, places, shares, strict=True):
        moved = moved + (share / place) * (other - x0)
    return moved
