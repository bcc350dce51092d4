"""Weightings: how much each level counts. A part is built with nothing and called with `(log_snr [B], slope [B])`.

It gives a weight [B] for the squared error in the space that it declares: of `x0`, of `eps`, or of the `target` itself. The
lab converts by the target's own gain, so a weighting is written once and is right for every target.
"""

from typing import Literal, Protocol

from torch import Tensor

from registry.shelf import Shelf, stock

Space = Literal["x0", "eps", "target"]


class Weighting(Protocol):
    """Weight [B] from log SNR [B] and its slope over the level [B]."""

    space: Space

    def __call__(self, log_snr: Tensor, slope: Tensor) -> Tensor: ...


WEIGHTINGS = Shelf("weighting", runtime=())

stock(__name__, __path__)
