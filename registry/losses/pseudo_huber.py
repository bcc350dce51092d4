"""The pseudo-Huber loss."""

from torch import Tensor

from registry.losses import LOSSES
from registry.options import Positive


@LOSSES.register("pseudo_huber")
def pseudo_huber(prediction: Tensor, target: Tensor, *, delta: Positive = 1.0) -> Tensor:
    """delta^2 (sqrt(1 + (error / delta)^2) - 1): Huber made smooth (Song & Dhariwal 2024, section 3.3)."""
    scaled = ((prediction - target) / delta) ** 2
    # The same as sqrt(1 + scaled) - 1, without its cancellation near 0.
    return delta**2 * scaled / ((1 + scaled).sqrt() + 1)
