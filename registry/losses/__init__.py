"""Losses: how far a prediction is from its target. A part is called with `(prediction, target)`, both [B, C, H, W].

It gives the elementwise loss [B, C, H, W]; the step reduces, in one place.
"""

from collections.abc import Callable

from torch import Tensor

from registry.registry import Registry, stock
from registry.traits import Traits

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES: Registry[Loss, Traits] = Registry("loss", runtime=("prediction", "target"))

stock(__name__, __path__)
