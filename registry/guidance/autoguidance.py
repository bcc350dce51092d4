"""Autoguidance."""

from torch import Tensor

from registry.guidance import GUIDANCE, ConditionalDenoise, GuidanceTraits, Load
from registry.guidance.interval import Interval, extrapolated, inside
from registry.options import NonNegative
from registry.path import NoisePath
from registry.samplers import Denoised


@GUIDANCE.register("autoguidance", GuidanceTraits(strength="scale", trial={"guide": "there", "interval": [0.1, 5.0]}))
def autoguidance(
    denoise: ConditionalDenoise,
    path: NoisePath,
    load: Load,
    *,
    guide: str,
    scale: NonNegative = 2.0,
    interval: Interval | None = None,
) -> ConditionalDenoise:
    """Extrapolates away from a poorer version of the model, with the same class (Karras et al. 2024b, eq. 4).

    `guide` is the folder of a run, trained less or smaller, or a snapshot of this run. `interval` as for classifier_free.
    """
    poor = load(guide)

    def guided(x: Tensor, level: Tensor, y: Tensor | None) -> Denoised:
        if scale == 1 or not inside(interval, path, level):
            return denoise(x, level, y)
        return extrapolated(denoise(x, level, y), poor(x, level, y), scale)

    return guided
