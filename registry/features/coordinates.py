"""coordinates: the points of a plane as they are."""

from __future__ import annotations

import hashlib

from torch import Tensor

from registry.errors import BadInput
from registry.features import FEATURES, MadeFor


@FEATURES.register("coordinates")
class Coordinates:
    """The first two channels, mean over the pixels, in [-1, 1]: the coordinates of points such as those of toy2d, D = 2."""

    dimension = 2
    class_names = None
    classes = None
    resize = "none"
    hash = hashlib.sha256(b"the mean of the first two channels, in [-1, 1]").hexdigest()
    made_for = MadeFor((1, 1), 2)

    def __call__(self, images: Tensor) -> tuple[Tensor, None]:
        if images.shape[1] < 2:
            raise BadInput("evaluate.features: 'coordinates' needs images of two channels, such as the points of toy2d")
        return images[:, :2].float().mean(dim=(2, 3)) / 127.5 - 1, None
