"""Independent pairs."""

import torch
from torch import Tensor

from registry.couplings import COUPLINGS, Coupling, CouplingTraits, Sampled


@COUPLINGS.register("independent", CouplingTraits(independent=True))
def independent(sampled: Sampled) -> Coupling:
    """Each image meets the noise that was sampled for it, as in every diffusion model (Ho et al. 2020)."""

    def paired(x0: Tensor, eps: Tensor, y: Tensor | None, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        return x0, eps

    return paired
