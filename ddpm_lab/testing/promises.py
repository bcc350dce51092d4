"""What the promises of all categories are written with, and the tables of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from registry.path import NoisePath
from registry.samplers import Denoised

Part = Callable[..., Any]  # with its options bound
CHECKS: dict[str, Callable[[Part], None]] = {}  # of each category; an AssertionError says which promise is broken
PROBES: dict[str, Callable[[Part], Tensor]] = {}  # what tells whether an option does anything
SOURCED: set[str] = set()  # the categories whose parts name their source

_T = torch.arange(1, 51, dtype=torch.float64) / 50  # ends in pure noise
PATHS = {
    "variance_preserving": NoisePath(torch.linspace(0.02, 1.55, 50), "variance_preserving"),
    "flow": NoisePath(torch.atan2(_T, 1 - _T), "flow"),
    "variance_exploding": NoisePath(torch.linspace(0.02, 1.55, 50), "variance_exploding"),
}
STD = 0.7


def promised(category: str, sourced: bool = True) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Decorator of what checks a category's parts; `sourced` ones name their source in the docstring."""

    def add(check: Callable[[Any], None]) -> Callable[[Any], None]:
        CHECKS[category] = check
        if sourced:
            SOURCED.add(category)
        return check

    return add


def probes(category: str) -> Callable[[Callable[[Any], Tensor]], Callable[[Any], Tensor]]:
    """Decorator of what looks at a part, so that two of its options can be told apart. A category may go without."""

    def add(probe: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
        PROBES[category] = probe
        return probe

    return add


def require(kept: bool, promise: str) -> None:
    """AssertionError where the promise is not kept."""
    if not kept:
        raise AssertionError(f"broken promise: {promise}")


def require_same(one: Tensor, other: Tensor, promise: str) -> None:
    """AssertionError where two tensors differ."""
    require(torch.equal(one, other), f"{promise} is the same when it is computed again")


def normal_images(count: int = 4, channels: int = 1, dtype: torch.dtype = torch.float32) -> Iterator[Tensor]:
    """Standard normal images [count, channels, 8, 8], others each time."""
    rng = torch.Generator().manual_seed(0)
    while True:
        yield torch.randn(count, channels, 8, 8, generator=rng, dtype=dtype)


def perfect(path: NoisePath) -> Callable[..., Denoised]:
    """The exact denoiser of normal data with standard deviation 0.5."""

    def denoise(x: Tensor, level: Tensor, to: Tensor | None = None) -> Denoised:
        alpha, sigma = path.at(level)
        x0 = alpha * 0.25 / (alpha**2 * 0.25 + sigma**2) * x
        return Denoised(x0, (x - alpha * x0) / sigma, None)

    return denoise


def conditional(path: NoisePath) -> Callable[..., Denoised]:
    """The same for all classes."""
    return lambda x, level, y: perfect(path)(x, level)
