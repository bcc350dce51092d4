"""The terms of the variational bound on the likelihood (Ho et al. 2020, eq. 5; Nichol & Dhariwal 2021, section 3.1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddpm_lab.diffusion.process import Diffusion, per_image
from registry.placing import exact_device, sent
from registry.samplers import Denoised
from registry.variances import Variance, forward_variance

HALF_LEVEL = 1 / 255  # of uint8 images in [-1, 1]


def bound_term(diffusion: Diffusion, variance: Variance, x0: Tensor, x_t: Tensor, level: Tensor, seen: Denoised) -> Tensor:
    """The term of each image [B] at its level, in bits per dimension; T - 1 times its mean over [0, T - 1] is the bound.

    A level d below 1 starts a chain d, d + 1 ... d + T - 2, whose T - 1 terms add up to the bound; the mean is over d too.
    A step leads from a level to the one below it by 1: the term is KL(q(x_s | x_t, x_0) || p(x_s | x_t)). From a level below 1
    it leads to the image: the term is the image's negative log likelihood. The last level of a chain has the prior's term too,
    KL(q(x_t | x_0) || N(0, s^2 I)), where s is what sampling starts with. A path of one level has one term. On a device without
    float64 the prior's is float32, 1e-6 bits off.
    """
    widest = torch.float64 if exact_device(x0.device) == x0.device else torch.float32

    def beside(value: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        return sent(value.to(dtype), x0.device)

    alpha_t, sigma_t = (per_image(value) for value in diffusion.path.at(level))
    alpha_s, sigma_s = (per_image(value) for value in diffusion.path.at((level - 1).clamp(min=0)))
    last = per_image(level < 1)
    alpha_s, sigma_s = torch.where(last, 1.0, alpha_s), torch.where(last, 0.0, sigma_s)
    forward = forward_variance(alpha_t, sigma_t, alpha_s, sigma_s)
    # Posterior mean, Kingma et al. 2021, eq. 26-27: linear in x_0, so the difference of the means is that of the images.
    gain = beside(alpha_s * forward / sigma_t**2)
    log_variance = beside(torch.log(variance(alpha_t, sigma_t, alpha_s, sigma_s, seen.extra))).expand_as(x0)
    true_variance = (forward * (sigma_s / sigma_t) ** 2).float()
    divergence = gaussian_kl(gain * (x0 - seen.x0), beside(torch.where(last, 1.0, true_variance).log()), log_variance)
    likelihood = discretized_log_likelihood(x0, seen.x0, log_variance)
    step = torch.where(beside(last, torch.bool), -likelihood, divergence)
    start = per_image(diffusion.path.start_std(level))
    shrunk, log_variance_t = beside(alpha_t / start, widest), beside(2 * torch.log(sigma_t / start), widest)
    prior = gaussian_kl(shrunk * x0, log_variance_t, torch.zeros_like(log_variance_t))
    first = beside(per_image(level > diffusion.path.steps - 2), torch.bool)
    return (step + torch.where(first, prior, 0.0).float()).flatten(1).mean(dim=1) / math.log(2)


def gaussian_kl(difference: Tensor, log_variance_q: Tensor, log_variance_p: Tensor) -> Tensor:
    """KL(q || p) of Gaussians whose means differ by `difference`, in nats."""
    ratio = torch.exp(log_variance_q - log_variance_p)
    return 0.5 * (ratio + difference**2 * torch.exp(-log_variance_p) - 1 + log_variance_p - log_variance_q)


def discretized_log_likelihood(x0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """The log probability, in nats, of one of 256 levels in [-1, 1] under a Gaussian; the ends reach to infinity.

    Ho et al. 2020, eq. 13.
    """
    scale = torch.exp(-0.5 * log_variance)
    # Where the level lies above the mean, the mirrored tail, which keeps its digits.
    sign = torch.where(x0 > mean, -1.0, 1.0)
    low, high = (x0 - HALF_LEVEL - mean) * scale, (x0 + HALF_LEVEL - mean) * scale
    low = torch.where(x0 < -0.999, -math.inf, low)
    high = torch.where(x0 > 0.999, math.inf, high)
    upper, lower = torch.maximum(sign * high, sign * low), torch.minimum(sign * high, sign * low)
    return torch.log((torch.special.ndtr(upper) - torch.special.ndtr(lower)).clamp(min=1e-12))
