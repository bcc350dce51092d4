"""The ancestral sampler."""

from torch import Tensor

from registry.samplers import SAMPLERS, Denoise, Grid, Noise, SamplerTraits
from registry.variances import forward_variance


@SAMPLERS.register("ancestral", SamplerTraits(uses_variance=True, diffusers="DDPMScheduler"))
def ancestral(denoise: Denoise, grid: Grid, noise: Noise) -> Tensor:
    """Samples the posterior q(x_s | x_t, x0), on any path (Ho et al. 2020, algorithm 2; Kingma et al. 2021, appendix A)."""
    x = grid.start(noise())
    for level, alpha_t, sigma_t, alpha_s, sigma_s, _ in grid:
        x0, _, extra = denoise(x, level)
        beta = forward_variance(alpha_t, sigma_t, alpha_s, sigma_s)
        # Posterior mean, Kingma et al. 2021, eq. 26-27.
        x = alpha_t / alpha_s * sigma_s**2 / sigma_t**2 * x + alpha_s * beta / sigma_t**2 * x0
        if sigma_s > 0:
            # A variance may have one value for each image, which would make float64 of them.
            x = x + grid.variance(alpha_t, sigma_t, alpha_s, sigma_s, extra).sqrt().to(x.dtype) * noise()
    return x
