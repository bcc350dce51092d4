"""The learning rate over training."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from registry.options import Fraction, NonNegativeInt, Positive


class Rate(BaseModel):
    """The learning rate: linear warm-up to `peak`, then constant, then a decay from `decay_from` of the run to its end.

    `inverse_sqrt` falls as 1 / sqrt(images) from there on (Karras et al. 2024, eq. 67) and does not reach `final`, which
    the others reach at the last image: `final` times `peak`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    peak: Positive
    warmup: NonNegativeInt = 0  # images
    decay: Literal["constant", "cosine", "linear", "inverse_sqrt"] = "constant"
    decay_from: Fraction = 0.5
    final: Fraction = 0.0

    def at(self, images: int, total: int) -> float:
        """The learning rate of the step that starts after `images` of `total` images."""
        rise = min(1.0, (images + 1) / self.warmup) if self.warmup else 1.0
        start = self.decay_from * total
        if self.decay == "constant" or images <= start:
            return self.peak * rise
        done = min((images - start) / (total - start), 1.0)
        fall = {
            "linear": self.final + (1 - self.final) * (1 - done),
            "cosine": self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done)),
            "inverse_sqrt": math.sqrt(max(start, 1) / images),
        }[self.decay]
        return self.peak * rise * fall
