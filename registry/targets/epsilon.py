"""The noise as target."""

from torch import Tensor

from registry.targets import TARGETS, Target
from registry.traits import Traits


@TARGETS.register("epsilon", Traits(diffusers="epsilon"))
class Epsilon(Target):
    """The noise (Ho et al. 2020, eq. 14)."""

    def of(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps

    def split(self, prediction: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return (x_t - sigma * prediction) / alpha, prediction
