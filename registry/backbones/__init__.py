"""Backbones: the networks. A part is an `nn.Module` built from `(image_shape, classes, channels_out)`.

Its call is `(x [B, C, H, W], label [B], y [B] or None) -> [B, channels_out, H, W]`: the noisy image, the noise label
(1000 level / T unless the target says otherwise), and the class. Where `classes` is a number K, `y` holds 0 .. K - 1, or
K for "no class", which is also what None means.
"""

from collections.abc import Callable

from torch import nn

from registry.registry import Registry, stock
from registry.traits import Traits

BACKBONES: Registry[Callable[[tuple[int, int, int], int | None, int], nn.Module], Traits] = Registry(
    "backbone", runtime=("image_shape", "classes", "channels_out")
)

stock(__name__, __path__)
