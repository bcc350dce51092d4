"""DPM-Solver++, second order, multistep."""

from torch import Tensor

from registry.samplers import SAMPLERS, Denoise, Grid, Noise, SamplerTraits
from registry.samplers.dpmpp_2m_sde import dpmpp_2m_sde


@SAMPLERS.register("dpmpp_2m", SamplerTraits(order=2))
def dpmpp_2m(denoise: Denoise, grid: Grid, noise: Noise) -> Tensor:
    """DPM-Solver++(2M): x_0 extrapolated along the log SNR (Lu et al. 2022b, algorithm 2). One evaluation a step."""
    return dpmpp_2m_sde(denoise, grid, noise, eta=0.0)
