"""The Huber loss."""

from torch import Tensor
from torch.nn.functional import huber_loss

from registry.losses import LOSSES
from registry.options import Positive


@LOSSES.register("huber")
def huber(prediction: Tensor, target: Tensor, *, delta: Positive = 1.0) -> Tensor:
    """Quadratic up to `delta`, linear beyond (Huber 1964, eq. 2.4); the annotated-diffusion default at delta 1."""
    return huber_loss(prediction, target, reduction="none", delta=delta)
