"""Guidance: how a conditional denoiser is steered. A part is called with `(denoise)` and gives a denoiser that guides.

Both take `(x [B, C, H, W], level, y [B] or None)` and give a `Denoised`; y None is the unconditional prediction.
"""

from collections.abc import Callable

from torch import Tensor

from registry.samplers import Denoised
from registry.shelf import Shelf, stock

ConditionalDenoise = Callable[[Tensor, Tensor, Tensor | None], Denoised]

GUIDANCE = Shelf("guidance", runtime=("denoise",))

stock(__name__, __path__)
