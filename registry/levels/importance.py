"""Noise levels sampled by the second moment of their loss."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from registry.levels import LEVELS
from registry.options import Count
from registry.path import NoisePath


@LEVELS.register("importance")
class Importance:
    """Levels as often as the root of their mean squared loss says (Nichol & Dhariwal 2021, eq. 18), importance 1 / (T p).

    The path is cut into `bins`, each with its last `history` losses; levels are uniform until all bins are full, and a share
    `uniform` of them stays so.
    """

    def __init__(
        self,
        path: NoisePath,
        *,
        bins: Annotated[int, Field(ge=2, le=10_000)] = 100,
        history: Count = 10,
        uniform: Annotated[float, Field(gt=0, le=1)] = 0.001,
    ) -> None:
        self.path, self.top, self.share = path, path.steps - 1, uniform
        self.losses = torch.zeros(bins, history, dtype=torch.float64)
        self.seen = torch.zeros(bins, dtype=torch.int64)  # losses of each bin, ever

    def __call__(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        share = self._shares().to(rng.device)
        chosen = torch.multinomial(share, count, replacement=True, generator=rng)
        within = torch.rand(count, generator=rng, dtype=torch.float64, device=rng.device)
        return (chosen + within) / len(share) * self.top, 1 / (len(share) * share[chosen])

    def density(self, level: Tensor) -> Tensor:
        """Over log SNR, [B], as the shares of the bins are now."""
        share = self._shares().to(level.device)
        return len(share) * share[self._bin(level)] * self.path.uniform_density(level)

    def update(self, level: Tensor, loss: Tensor) -> None:
        """Remember the losses [count] of these levels [count], before importance; the oldest give way."""
        history = self.losses.shape[1]
        # This waits for an accelerator: the next levels depend on these losses.
        for bin_, value in zip(self._bin(level).tolist(), loss.tolist(), strict=True):
            self.losses[bin_, self.seen[bin_] % history] = value
            self.seen[bin_] += 1

    def state_dict(self) -> dict[str, Tensor]:
        """All that the next sample depends on."""
        return {"losses": self.losses.clone(), "seen": self.seen.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Resume from `state_dict()`."""
        self.losses.copy_(state["losses"])
        self.seen.copy_(state["seen"])

    def _bin(self, level: Tensor) -> Tensor:
        bins = len(self.losses)
        return (level / max(self.top, 1) * bins).long().clamp(max=bins - 1)

    def _shares(self) -> Tensor:
        """The probability of each bin, [bins]."""
        bins, history = self.losses.shape
        if not bool((self.seen >= history).all()):
            return torch.full((bins,), 1 / bins, dtype=torch.float64)
        weight = (self.losses**2).mean(dim=1).sqrt()
        return (1 - self.share) * weight / weight.sum() + self.share / bins
