"""EDM's weighting."""

import torch
from torch import Tensor

from registry.options import Positive
from registry.weightings import WEIGHTINGS, Space, Weighting


@WEIGHTINGS.register("edm")
class EDM(Weighting):
    """(sigma^2 + std^2) / (sigma std)^2 on the error of x_0, sigma standing for sigma / alpha (Karras et al. 2022, table 1).

    With the target `edm` it is `constant`. `data_std` is the data's own if not given.
    """

    space: Space = "x0"

    def __init__(self, std: float, *, data_std: Positive | None = None) -> None:
        super().__init__(data_std if data_std is not None else std)

    def __call__(self, log_snr: Tensor, slope: Tensor) -> Tensor:
        return self.std**-2 + torch.exp(log_snr)
