"""Jumps of a flow map."""

from torch import Tensor

from registry.samplers import SAMPLERS, Denoise, Grid, Noise, SamplerTraits


@SAMPLERS.register("flow_map", SamplerTraits(takes=frozenset({"flow_map"})))
def flow_map(denoise: Denoise, grid: Grid, noise: Noise) -> Tensor:
    """From level to level, each a jump that the network was trained for (Geng et al. 2025, algorithm 2; Frans et al. 2024)."""
    x = grid.start(noise())
    for step in grid:
        to = step.level.new_tensor(-1.0) if step.level_s is None else step.level_s
        x0, eps, _ = denoise(x, step.level, to)
        x = step.alpha_s * x0 + step.sigma_s * eps
    return x
