"""The cosine schedule."""

import torch

from registry.options import Fraction, NonNegative, Positive
from registry.path import NoisePath
from registry.schedules import SCHEDULES


@SCHEDULES.register("cosine")
def cosine(
    steps: int,
    *,
    s: NonNegative = 0.008,
    max_beta: Fraction = 0.999,
    zero_terminal_snr: bool = False,
    shift: Positive = 1.0,
) -> NoisePath:
    """alpha_bar falls as a squared cosine (Nichol & Dhariwal 2021, eq. 17); betas are capped at `max_beta`."""
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    alpha_bar = torch.cos((t + s) / (1 + s) * torch.pi / 2) ** 2
    return NoisePath.from_alpha_bar(alpha_bar, max_beta).adapted(zero_terminal_snr, shift)
