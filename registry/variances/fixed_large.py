"""The forward step's variance."""

from torch import Tensor

from registry.traits import Traits
from registry.variances import VARIANCES, Variance, forward_variance


@VARIANCES.register("fixed_large", Traits(diffusers="fixed_large"))
class FixedLarge(Variance):
    """The variance of the forward step q(x_t | x_s) (Ho et al. 2020, section 3.2, beta)."""

    def __call__(self, alpha_t: Tensor, sigma_t: Tensor, alpha_s: Tensor, sigma_s: Tensor, extra: Tensor | None) -> Tensor:
        return forward_variance(alpha_t, sigma_t, alpha_s, sigma_s)
