"""The log-cosh loss."""

import torch
from torch import Tensor

from registry.losses import LOSSES


@LOSSES.register("log_cosh")
def log_cosh(prediction: Tensor, target: Tensor) -> Tensor:
    """log(cosh(error)): half the square near 0, the absolute error less ln 2 far away (Green 1990)."""
    error = (prediction - target).abs()
    return error + torch.log1p(torch.expm1(-2 * error) / 2)  # cosh itself overflows
