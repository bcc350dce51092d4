"""Grids: which levels a sampler visits. A part is called with `(path, count)` and gives levels [count], noisiest first."""

from registry.shelf import Shelf, stock

GRIDS = Shelf("grid", runtime=("path", "count"))

stock(__name__, __path__)
