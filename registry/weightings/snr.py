"""The signal-to-noise ratio."""

from torch import Tensor

from registry.options import NonNegative
from registry.weightings import WEIGHTINGS, Space, Weighting


@WEIGHTINGS.register("snr")
class SNR(Weighting):
    """SNR on the error of x_0, which is 1 on that of eps; `at_least: 1` truncates it (Salimans & Ho 2022, section 4)."""

    space: Space = "x0"

    def __init__(self, std: float, *, at_least: NonNegative = 0.0) -> None:
        super().__init__(std)
        self.at_least = at_least

    def __call__(self, log_snr: Tensor, slope: Tensor) -> Tensor:
        return log_snr.exp().clamp(min=self.at_least)
