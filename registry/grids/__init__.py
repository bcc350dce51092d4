"""Grids: which levels a sampler visits. A part is called with `(path, count)` and gives levels [count], noisiest first."""

from collections.abc import Callable

from torch import Tensor

from registry.errors import BadInput
from registry.path import NoisePath
from registry.registry import Registry, stock
from registry.traits import Traits


def require_finite(path: NoisePath, grid: str) -> None:
    """BadInput where the path ends in pure noise, whose log SNR no even spacing reaches."""
    if path.ends_in_noise:
        raise BadInput(f"sampling.grid: {grid} cannot space a path that ends in pure noise; take trailing or uniform")


GRIDS: Registry[Callable[[NoisePath, int], Tensor], Traits] = Registry("grid", runtime=("path", "count"))

stock(__name__, __path__)
