"""P2 weighting."""

from torch import Tensor

from registry.options import NonNegative, Positive
from registry.weightings import WEIGHTINGS, Space, Weighting


@WEIGHTINGS.register("p2")
class P2(Weighting):
    """1 / (k + SNR)^gamma on the error of eps (Choi et al. 2022, eq. 8)."""

    space: Space = "eps"

    def __init__(self, std: float, *, k: Positive = 1.0, gamma: NonNegative = 1.0) -> None:
        super().__init__(std)
        self.k = k
        self.gamma = gamma

    def __call__(self, log_snr: Tensor, slope: Tensor) -> Tensor:
        return (self.k + log_snr.exp()) ** -self.gamma
