"""The same weight everywhere."""

import torch
from torch import Tensor

from registry.weightings import WEIGHTINGS, Space, Weighting


@WEIGHTINGS.register("constant")
class Constant(Weighting):
    """Weight 1 on the error of the target itself (L_simple of Ho et al. 2020, eq. 14, for the epsilon target)."""

    space: Space = "target"

    def __call__(self, log_snr: Tensor, slope: Tensor) -> Tensor:
        return torch.ones_like(log_snr)
