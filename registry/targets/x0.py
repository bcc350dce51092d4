"""The clean image as target."""

from torch import Tensor

from registry.targets import TARGETS, Target
from registry.traits import Traits


@TARGETS.register("x0", Traits(diffusers="sample"))
class X0(Target):
    """The clean image (Ho et al. 2020, section 3.2; Salimans & Ho 2022, section 4)."""

    def of(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return x0

    def split(self, prediction: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return prediction, (x_t - alpha * prediction) / sigma
