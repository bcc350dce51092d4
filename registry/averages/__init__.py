"""Averages: moving averages of the weights. A part is built with nothing and gives a `Decay`.

A decay is called with `(images, batch)`, the images seen up to and with a step and those of the step itself, and gives
the share of the old average that the step leaves: average = decay average + (1 - decay) weights.
"""

from collections.abc import Callable
from dataclasses import dataclass

from registry.registry import Registry, stock
from registry.traits import Options, Traits

Decay = Callable[[int, int], float]


@dataclass(frozen=True)
class AverageTraits(Traits):
    """What an average declares: the option that says how long its memory is, if one does, and whether its profile is tau^gamma.

    `power_std(options)` is the relative standard deviation of such a profile. Snapshots of those averages are kept, and
    `ddpm-lab ema` makes others from them.
    """

    length: str | None = None
    power_std: Callable[[Options], float] | None = None


AVERAGES: Registry[Callable[[], Decay], AverageTraits] = Registry("average", (), AverageTraits())

stock(__name__, __path__)
