"""Soft min-SNR weighting."""

import math

import torch
from torch import Tensor

from registry.options import Positive
from registry.weightings import WEIGHTINGS, Space, Weighting


@WEIGHTINGS.register("soft_min_snr")
class SoftMinSNR(Weighting):
    """SNR gamma / (SNR + gamma) on the error of x_0: min-SNR without its corner (Crowson et al. 2024)."""

    space: Space = "x0"

    def __init__(self, std: float, *, gamma: Positive = 4.0) -> None:
        super().__init__(std)
        self.gamma = gamma

    def __call__(self, log_snr: Tensor, slope: Tensor) -> Tensor:
        return self.gamma * torch.sigmoid(log_snr - math.log(self.gamma))
