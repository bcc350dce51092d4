"""A learned variance between the two fixed ones."""

import torch
from torch import Tensor

from registry.options import Positive
from registry.placing import sent
from registry.traits import Traits
from registry.variances import VARIANCES, Variance, forward_variance


@VARIANCES.register("learned_range", Traits(diffusers="learned_range"))
class LearnedRange(Variance):
    """exp(v log beta + (1 - v) log beta~), v = (1 + extra) / 2 (Nichol & Dhariwal 2021, eq. 15).

    The loss is the hybrid L_simple + `bound` L_vlb (eq. 16), of which only L_vlb teaches v and only v learns from L_vlb.
    """

    extra_channels = 1

    def __init__(self, *, bound: Positive = 0.001) -> None:
        self.bound = bound

    def __call__(self, alpha_t: Tensor, sigma_t: Tensor, alpha_s: Tensor, sigma_s: Tensor, extra: Tensor | None) -> Tensor:
        assert extra is not None, "the network was built with channels for it"
        large = forward_variance(alpha_t, sigma_t, alpha_s, sigma_s)
        # At the last step the posterior's own variance is 0, whose logarithm is not to be had; half of beta stands for it
        # (improved-diffusion takes the step before, which has 0.54 of it on its linear schedule).
        small = torch.where(sigma_s > 0, large * (sigma_s / sigma_t) ** 2, large / 2)
        share = (1 + extra) / 2
        # In training alpha and sigma are [B, 1, 1, 1], which would make float64 of all.
        log_large, log_small = (sent(torch.log(value).to(extra.dtype), extra.device) for value in (large, small))
        return torch.exp(share * log_large + (1 - share) * log_small)
