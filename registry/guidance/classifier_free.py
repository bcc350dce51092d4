"""Classifier-free guidance."""

from torch import Tensor

from registry.guidance import GUIDANCE, ConditionalDenoise, GuidanceTraits, Load
from registry.guidance.interval import Interval, extrapolated, inside
from registry.options import Fraction, NonNegative
from registry.path import NoisePath
from registry.samplers import Denoised

TRIAL = {"scale": 2.0, "interval": [0.1, 5.0], "rescale": 0.5}


@GUIDANCE.register(
    "classifier_free", GuidanceTraits(needs_classes=lambda options: options["scale"] != 1, strength="scale", trial=TRIAL)
)
def classifier_free(
    denoise: ConditionalDenoise,
    path: NoisePath,
    load: Load,
    *,
    scale: NonNegative = 1.0,
    interval: Interval | None = None,
    rescale: Fraction = 0.0,
) -> ConditionalDenoise:
    """Extrapolates from the unconditional towards the conditional prediction (Ho & Salimans 2022, eq. 6, with scale = 1 + w).

    scale 0 ignores the class, 1 is the plain conditional model (one evaluation a step; other scales cost two). `interval` of
    sigma / alpha: outside of it nothing is guided (Kynkäänniemi et al. 2024, eq. 5). `rescale` is how much of the conditional
    x_0's standard deviation is given back to each guided image (Lin et al. 2024, eq. 15 and 16).
    """

    def guided(x: Tensor, level: Tensor, y: Tensor | None) -> Denoised:
        if y is None or scale == 1 or not inside(interval, path, level):
            return denoise(x, level, y)
        with_class, without = denoise(x, level, y), denoise(x, level, None)
        strong = extrapolated(with_class, without, scale)
        if not rescale:
            return strong
        over = tuple(range(1, x.ndim))
        ratio = with_class.x0.std(dim=over, keepdim=True) / strong.x0.std(dim=over, keepdim=True)
        x0 = strong.x0 * (rescale * ratio + 1 - rescale)
        alpha, sigma = path.at(level)
        return Denoised(x0, (x - alpha * x0) / sigma, strong.extra)

    return guided
