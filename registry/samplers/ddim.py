"""The DDIM sampler."""

from torch import Tensor

from registry.options import Fraction
from registry.samplers import SAMPLERS, Denoise, Grid, Noise, SamplerTraits
from registry.variances import forward_variance


@SAMPLERS.register("ddim", SamplerTraits(diffusers="DDIMScheduler", takes=frozenset({"denoiser", "jumps"})))
def ddim(denoise: Denoise, grid: Grid, noise: Noise, *, eta: Fraction = 0.0) -> Tensor:
    """DDIM: deterministic at eta 0, the ancestral sampler at eta 1 (Song et al. 2021a, eq. 12 and 16)."""
    x = grid.start(noise())
    for level, alpha_t, sigma_t, alpha_s, sigma_s, _ in grid:
        x0, eps, _ = denoise(x, level)
        variance = eta**2 * forward_variance(alpha_t, sigma_t, alpha_s, sigma_s) * (sigma_s / sigma_t) ** 2
        x = alpha_s * x0 + (sigma_s**2 - variance).clamp(min=0).sqrt() * eps
        if eta > 0 and sigma_s > 0:
            x = x + variance.sqrt() * noise()
    return x
