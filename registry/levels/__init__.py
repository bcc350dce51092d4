"""Levels: at which noise the network trains. A part is built with `(path)` and called with `(count, rng)`.

It gives the levels [count], float64 in [0, T - 1], and their importance [count]: the factor that keeps the loss an
unbiased estimate of its mean over uniform levels; 1 where the choice of levels is itself what weighs them.

Its `density(level)` [count], float64, is that of the levels it samples, over log SNR: what is declared over log SNR (the
weighting `sigmoid`, the variational bound) is divided by it. It is infinite where a share of the levels falls on one point,
such as an end of the path. `path.uniform_density(level)` is that of uniform levels. Levels without it serve everything else.

An adaptive one learns from the losses of its levels: it has `update(level, loss)` and keeps its state in the checkpoint.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from registry.path import NoisePath
from registry.registry import Registry, stock
from registry.traits import Traits


class Levels(Protocol):
    """`count` levels sampled with `rng`, on the device of `rng`."""

    def __call__(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]: ...


@runtime_checkable
class KnownLevels(Protocol):
    """Levels that give their density over log SNR [count] at levels [count], float64."""

    def __call__(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]: ...

    def density(self, level: Tensor) -> Tensor: ...


@runtime_checkable
class AdaptiveLevels(Protocol):
    """Levels that are told the loss [count], float32, of each image at the level [count] that it had."""

    def __call__(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]: ...

    def update(self, level: Tensor, loss: Tensor) -> None: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


LEVELS: Registry[Callable[[NoisePath], Levels], Traits] = Registry("levels", runtime=("path",))

stock(__name__, __path__)
