"""Levels: at which noise the network trains. A part is built with `(steps)` and called with `(count, rng)`.

It gives the levels [count], float64 in [0, T - 1], and their importance [count]: the factor that keeps the loss an
unbiased estimate of its mean over uniform levels.
"""

from typing import Protocol

import torch
from torch import Tensor

from registry.shelf import Shelf, stock


class Levels(Protocol):
    """`count` levels drawn with `rng`, on the device of `rng`."""

    def __call__(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]: ...


LEVELS = Shelf("levels", runtime=("steps",))

stock(__name__, __path__)
