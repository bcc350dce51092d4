"""Couplings: which noise meets which image. A part is built with `(sampled)` and called with `(x0, eps, y, rng)`.

x0 and eps [N, C, H, W] and y [N] or None are of the whole batch, whatever the number of processes, and so are the pairs that
it gives back: x0 and eps [N, C, H, W], of which the first belongs to the first, and so on. Classes stay where they are, so a
coupling pairs within each class. `sampled(run, indices)` gives the images [n, C, H, W] of another run, in [-1, 1], the noise
that they came from, and the classes [n] that were asked for, or None.

Where image and noise depend on each other, -E[eps | x_t] / sigma is not the score: such a coupling declares
`independent=False`, and its network is sampled without noise on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from registry.registry import Registry, stock
from registry.traits import Traits

Sampled = Callable[[str, range], tuple[Tensor, Tensor, Tensor | None]]
Coupling = Callable[[Tensor, Tensor, Tensor | None, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class CouplingTraits(Traits):
    """What a coupling declares: whether image and noise are independent, as on the path of a diffusion model."""

    independent: bool = False


COUPLINGS: Registry[Callable[[Sampled], Coupling], CouplingTraits] = Registry("coupling", ("sampled",), CouplingTraits())

stock(__name__, __path__)
