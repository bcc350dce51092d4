"""The posterior's own variance."""

from torch import Tensor

from registry.traits import Traits
from registry.variances import VARIANCES, Variance, forward_variance


@VARIANCES.register("fixed_small", Traits(diffusers="fixed_small"))
class FixedSmall(Variance):
    """The variance of q(x_s | x_t, x_0) (Ho et al. 2020, section 3.2, beta tilde; Kingma et al. 2021, eq. 25)."""

    def __call__(self, alpha_t: Tensor, sigma_t: Tensor, alpha_s: Tensor, sigma_s: Tensor, extra: Tensor | None) -> Tensor:
        return forward_variance(alpha_t, sigma_t, alpha_s, sigma_s) * (sigma_s / sigma_t) ** 2
