"""Averages: moving averages of the weights. A part is built with nothing and gives a `Decay`.

A decay is called with `(images, batch)`, the images seen up to and with a step and those of the step itself, and gives
the share of the old average that the step leaves: average = decay average + (1 - decay) weights.
"""

from collections.abc import Callable

from registry.shelf import Shelf, stock

Decay = Callable[[int, int], float]

AVERAGES = Shelf("average", runtime=())

stock(__name__, __path__)
