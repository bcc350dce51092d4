"""Sigmoid weighting."""

import torch
from torch import Tensor

from registry.weightings import WEIGHTINGS, Space, Weighting


@WEIGHTINGS.register("sigmoid")
class Sigmoid(Weighting):
    """-1/2 d log_snr / dt sigmoid(b - log_snr) on the error of eps (Kingma & Gao 2023, section 5; Hoogeboom et al. 2024)."""

    space: Space = "eps"

    def __init__(self, std: float, *, b: float = 2.0) -> None:
        super().__init__(std)
        self.b = b

    def __call__(self, log_snr: Tensor, slope: Tensor) -> Tensor:
        return -0.5 * slope * torch.sigmoid(self.b - log_snr)
