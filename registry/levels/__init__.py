"""Levels: at which noise the network trains. A part is built with `(path)` and called with `(count, rng)`.

It gives the levels [count], float64 in [0, T - 1], and their importance [count]: the factor that keeps the loss an
unbiased estimate of its mean over uniform levels; 1 where the choice of levels is itself what weighs them.

An adaptive one learns from the losses of its levels: it has `update(level, loss)` and keeps its state in the checkpoint.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from registry.shelf import Shelf, stock


class Levels(Protocol):
    """`count` levels drawn with `rng`, on the device of `rng`."""

    def __call__(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]: ...


@runtime_checkable
class AdaptiveLevels(Protocol):
    """Levels that are told the loss [count], float32, of each image at the level [count] that it had."""

    def __call__(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]: ...

    def update(self, level: Tensor, loss: Tensor) -> None: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


LEVELS = Shelf("levels", runtime=("path",))

stock(__name__, __path__)
