"""Absolute error."""

from torch import Tensor

from registry.losses import LOSSES


@LOSSES.register("l1")
def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Absolute error; its optimum is the median, not the mean (Saharia et al. 2022, Palette, section 4)."""
    return (prediction - target).abs()
