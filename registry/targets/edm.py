"""EDM's preconditioning, on every path."""

import torch
from torch import Tensor

from registry.options import Positive
from registry.targets import TARGETS, Target


@TARGETS.register("edm")
class EDM(Target):
    """x_0 = c_skip x_t + c_out F(c_in x_t, c_noise), all of unit variance (Karras et al. 2022, table 1 and appendix B.6).

    On a path with any alpha, r^2 = alpha^2 std^2 + sigma^2 stands for their std^2 + sigma^2: c_in = 1 / r,
    c_skip = alpha std^2 / r^2, c_out = sigma std / r, c_noise = ln(sigma / alpha) / 4. `std` is the data's own if not given.
    """

    def __init__(self, std: float, *, data_std: Positive | None = None) -> None:
        super().__init__(data_std if data_std is not None else std)

    def of(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        # (x_0 - c_skip x_t) / c_out with x_t put in, so that nothing is divided by a sigma of 0.
        return (sigma / self.std * x0 - alpha * self.std * eps) / self._size(alpha, sigma)

    def split(self, prediction: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        size = self._size(alpha, sigma)
        x0 = (alpha * self.std**2 / size**2) * x_t + (sigma * self.std / size) * prediction
        return x0, (sigma / size**2) * x_t - (alpha * self.std / size) * prediction

    def condition(self, alpha: Tensor, sigma: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.log(sigma / alpha.clamp(min=torch.finfo(alpha.dtype).tiny)) / 4
        return 1 / self._size(alpha, sigma), noise.flatten().to(label.dtype)

    def _size(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """r, the standard deviation of x_t."""
        return (alpha**2 * self.std**2 + sigma**2).sqrt()
