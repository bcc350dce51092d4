"""Guidance: how a conditional denoiser is steered. A part is called with `(denoise, path, load)` and gives one that guides.

Denoisers take `(x [B, C, H, W], level, y [B] or None)` and give a `Denoised`; y None is the unconditional prediction. `load`
gives the denoiser of another run, by its folder, or of a snapshot, by its file.
"""

from collections.abc import Callable

from torch import Tensor

from registry.samplers import Denoised
from registry.shelf import Shelf, stock

ConditionalDenoise = Callable[[Tensor, Tensor, Tensor | None], Denoised]
Load = Callable[[str], ConditionalDenoise]

GUIDANCE = Shelf("guidance", runtime=("denoise", "path", "load"))

stock(__name__, __path__)
