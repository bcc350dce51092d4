"""Classifier-free guidance."""

import torch
from torch import Tensor

from registry.guidance import GUIDANCE, ConditionalDenoise
from registry.options import NonNegative
from registry.samplers import Denoised


@GUIDANCE.register("classifier_free")
def classifier_free(denoise: ConditionalDenoise, *, scale: NonNegative = 1.0) -> ConditionalDenoise:
    """Extrapolates from the unconditional towards the conditional prediction (Ho & Salimans 2022, eq. 6, with scale = 1 + w).

    scale 0 ignores the class, 1 is the plain conditional model (one evaluation a step; other scales cost two).
    """

    def guided(x: Tensor, level: Tensor, y: Tensor | None) -> Denoised:
        if y is None or scale == 1:
            return denoise(x, level, y)
        with_class, without = denoise(x, level, y), denoise(x, level, None)
        return Denoised(
            torch.lerp(without.x0, with_class.x0, scale), torch.lerp(without.eps, with_class.eps, scale), with_class.extra
        )

    return guided
