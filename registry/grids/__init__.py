"""Grids: which levels a sampler visits. A part is called with `(path, count)` and gives levels [count], noisiest first."""

from registry.shelf import Shelf

GRIDS = Shelf("grid", runtime=("path", "count"))

from registry.grids import uniform  # noqa: E402, F401
