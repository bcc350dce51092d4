"""Schedules: how much noise there is at each of the T knots. A part is called with `(steps)` and gives a `NoisePath`."""

from collections.abc import Callable, Iterator

from registry.path import NoisePath
from registry.registry import Registry, stock
from registry.traits import Options, Setting, Traits

SCHEDULES: Registry[Callable[[int], NoisePath], Traits] = Registry("schedule", runtime=("steps",))


def _unscaled(options: Options, setting: Setting) -> Iterator[str]:
    if not options["scale"] and setting.path.steps != 1000:
        yield f"schedule.scale is false: these betas were published for T = 1000, not for {setting.path.steps}"


PUBLISHED_BETAS = Traits(advice=_unscaled)  # of schedules whose option `scale` is whether they are scaled by 1000 / T

stock(__name__, __path__)
