"""Schedules: how much noise there is at each of the T knots. A part is called with `(steps)` and gives a `NoisePath`."""

from registry.shelf import Shelf, stock

SCHEDULES = Shelf("schedule", runtime=("steps",))

stock(__name__, __path__)
