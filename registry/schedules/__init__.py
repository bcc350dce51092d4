"""Schedules: how much noise there is at each of the T knots. A part is called with `(steps)` and gives a `NoisePath`."""

from registry.shelf import Shelf

SCHEDULES = Shelf("schedule", runtime=("steps",))

from registry.schedules import cosine, linear  # noqa: E402, F401
