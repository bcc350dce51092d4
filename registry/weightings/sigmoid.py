"""Sigmoid weighting."""

import torch
from torch import Tensor

from registry.weightings import WEIGHTINGS, Space, Weighting


@WEIGHTINGS.register("sigmoid")
class Sigmoid(Weighting):
    """1/2 sigmoid(b - log_snr) over log SNR, on the error of eps (Kingma & Gao 2023, section 5; Hoogeboom et al. 2024).

    With uniform levels t the loss is multiplied by -1/2 d log_snr / dt sigmoid(b - log_snr), as it is in the papers.
    """

    space: Space = "eps"
    per_log_snr = True

    def __init__(self, std: float, *, b: float = 2.0) -> None:
        super().__init__(std)
        self.b = b

    def __call__(self, log_snr: Tensor, slope: Tensor) -> Tensor:
        return 0.5 * torch.sigmoid(self.b - log_snr)
