"""Losses: how far a prediction is from its target. A part is called with `(prediction, target)`, both [B, C, H, W].

It gives the elementwise loss [B, C, H, W]; the step reduces, in one place.
"""

from registry.shelf import Shelf

LOSSES = Shelf("loss", runtime=("prediction", "target"))

from registry.losses import huber, l1, l2  # noqa: E402, F401
