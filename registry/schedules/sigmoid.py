"""The sigmoid schedule."""

import torch

from registry.errors import BadInput
from registry.options import Fraction, Positive
from registry.path import NoisePath
from registry.schedules import SCHEDULES


@SCHEDULES.register("sigmoid")
def sigmoid(
    steps: int,
    *,
    start: float = -3.0,
    end: float = 3.0,
    tau: Positive = 1.0,
    max_beta: Fraction = 0.999,
    zero_terminal_snr: bool = False,
    shift: Positive = 1.0,
) -> NoisePath:
    """alpha_bar falls as a sigmoid (Jabri et al. 2023; Chen 2023, algorithm 1); betas are capped at `max_beta`."""
    if start >= end:
        raise BadInput(f"start {start:g} is not below end {end:g}")
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    # sigmoid(-x) = 1 - sigmoid(x): the fall from start to end, made to go from 1 to 0.
    fall = torch.sigmoid(-(start + t * (end - start)) / tau)
    return NoisePath.from_alpha_bar((fall - fall[-1]) / (fall[0] - fall[-1]), max_beta).adapted(zero_terminal_snr, shift)
