"""Multistep sampling of a consistency model."""

from torch import Tensor

from registry.samplers import SAMPLERS, Denoise, Grid, Noise, SamplerTraits


@SAMPLERS.register("consistency", SamplerTraits(takes=frozenset({"consistency"})))
def consistency(denoise: Denoise, grid: Grid, noise: Noise) -> Tensor:
    """To the clean image, then noise again for the next level (Song et al. 2023, algorithm 1)."""
    x = grid.start(noise())
    for step in grid:
        x0, _, _ = denoise(x, step.level)
        x = step.alpha_s * x0
        if step.sigma_s > 0:
            x = x + step.sigma_s * noise()
    return x
