"""The Laplace schedule."""

import torch

from registry.options import Positive
from registry.path import NoisePath
from registry.schedules import SCHEDULES


@SCHEDULES.register("laplace")
def laplace(
    steps: int, *, mu: float = 0.0, b: Positive = 0.5, zero_terminal_snr: bool = False, shift: Positive = 1.0
) -> NoisePath:
    """Log SNRs as uniform levels give them a Laplace distribution, mean `mu`, scale `b` (Hang et al. 2024, table 1)."""
    # The middles of T equal parts, because the log SNR is infinite at the ends.
    t = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    log_snr = mu - b * torch.sign(0.5 - t) * torch.log1p(-2 * (t - 0.5).abs())
    # From t = 0, where the logarithm is negative and the sign positive, the log SNR falls.
    return NoisePath.from_log_snr(log_snr, "variance_preserving").adapted(zero_terminal_snr, shift)
