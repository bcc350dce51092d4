"""Guidance: how a conditional denoiser is steered. A part is called with `(denoise, path, load)` and gives one that guides.

Denoisers take `(x [B, C, H, W], level, y [B] or None)` and give a `Denoised`; y None is the unconditional prediction. `load`
gives the denoiser of another run, by its folder, or of a snapshot, by its file.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from registry.path import NoisePath
from registry.registry import Registry, stock
from registry.samplers import Denoised
from registry.traits import Options, Traits

ConditionalDenoise = Callable[[Tensor, Tensor, Tensor | None], Denoised]
Load = Callable[[str], ConditionalDenoise]
Guide = Callable[[ConditionalDenoise, NoisePath, Load], ConditionalDenoise]


def _never(options: Options) -> bool:
    return False


@dataclass(frozen=True)
class GuidanceTraits(Traits):
    """What guidance declares: whether it needs a network that knows classes, and which option `--guidance` sets, if any."""

    needs_classes: Callable[[Options], bool] = _never
    strength: str | None = None


GUIDANCE: Registry[Guide, GuidanceTraits] = Registry("guidance", ("denoise", "path", "load"), GuidanceTraits())

stock(__name__, __path__)
