"""EDM2's power-function average."""

from __future__ import annotations

from registry.averages import AVERAGES, AverageTraits
from registry.averages.profile import RelativeStd, gamma_of


@AVERAGES.register("power", AverageTraits(length="std", power_std=lambda options: options["std"]))
class Power:
    """An average whose memory grows with the run (Karras et al. 2024, EDM2, section 3.1): its profile is tau^gamma.

    `std` is the standard deviation of the profile as a share of the run so far; 0.05 is short, 0.15 long. Two of them, kept by
    `train.snapshots_every`, let `ddpm-lab ema` make any other afterwards.
    """

    def __init__(self, *, std: RelativeStd = 0.1) -> None:
        self.std, self.gamma = std, gamma_of(std)

    def __call__(self, images: int, batch: int) -> float:
        steps = images / batch
        return (1 - 1 / steps) ** (self.gamma + 1) if steps > 1 else 0.0  # beta_gamma(t), eq. 127
