"""Squared error."""

from torch import Tensor

from registry.losses import LOSSES


@LOSSES.register("l2")
def l2(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared error, the loss of the variational bound (Ho et al. 2020, eq. 14)."""
    return (prediction - target) ** 2
