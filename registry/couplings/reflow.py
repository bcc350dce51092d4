"""Pairs of a trained flow."""

import torch
from torch import Tensor

from registry.couplings import COUPLINGS, Coupling, CouplingTraits, Sampled
from registry.options import Count


@COUPLINGS.register("reflow", CouplingTraits(trial={"run": "there", "pairs": 64}))
def reflow(sampled: Sampled, *, run: str, pairs: Count = 20_000) -> Coupling:
    """The images that a trained run makes of noise, with that noise: straighter paths (Liu et al. 2023, algorithm 1).

    So many pairs are sampled before training, by the run's own procedure without noise on the way; images of the data take
    no part.
    """
    made: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def paired(x0: Tensor, eps: Tensor, y: Tensor | None, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        if not made:
            made.append(sampled(run, range(pairs)))
        images, noise, labels = made[0]
        # The pairs lie on the CPU, so this waits for an accelerator.
        place = torch.rand(len(x0), generator=rng, device=rng.device).cpu()
        chosen = (place * len(images)).long()
        if y is not None and labels is not None:
            for label in y.unique().cpu():
                own, asked = (labels == label).nonzero().flatten(), y.cpu() == label
                chosen[asked] = own[(place[asked] * len(own)).long()]
        return images[chosen].to(x0.device), noise[chosen].to(x0.device)

    return paired
