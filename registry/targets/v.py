"""The velocity v as target."""

from torch import Tensor

from registry.targets import TARGETS, Target
from registry.traits import Traits


@TARGETS.register("v", Traits(diffusers="v_prediction"))
class V(Target):
    """v = alpha eps - sigma x_0 (Salimans & Ho 2022, section 4 and appendix D)."""

    def of(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha * eps - sigma * x0

    def split(self, prediction: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        # The determinant of (x0, eps) -> (x_t, v); 1 on a variance-preserving path.
        norm = alpha**2 + sigma**2
        return (alpha * x_t - sigma * prediction) / norm, (sigma * x_t + alpha * prediction) / norm
