"""Min-SNR weighting."""

from torch import Tensor

from registry.options import Positive
from registry.weightings import WEIGHTINGS, Space, Weighting


@WEIGHTINGS.register("min_snr")
class MinSNR(Weighting):
    """min(SNR, gamma) on the error of x_0 (Hang et al. 2023, section 3.4)."""

    space: Space = "x0"

    def __init__(self, std: float, *, gamma: Positive = 5.0) -> None:
        super().__init__(std)
        self.gamma = gamma

    def __call__(self, log_snr: Tensor, slope: Tensor) -> Tensor:
        return log_snr.exp().clamp(max=self.gamma)
