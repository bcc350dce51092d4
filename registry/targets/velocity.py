"""The velocity of the straight path as target."""

from torch import Tensor

from registry.targets import TARGETS, Target


@TARGETS.register("velocity")
class Velocity(Target):
    """eps - x_0, the velocity d x_t / dt of the flow path (Liu et al. 2023, eq. 1; Lipman et al. 2023, eq. 23)."""

    def of(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps - x0

    def split(self, prediction: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        # alpha + sigma is 1 on the flow path; on others the same two images follow from it.
        x0 = (x_t - sigma * prediction) / (alpha + sigma)
        return x0, x0 + prediction
