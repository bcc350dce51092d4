"""Losses: how far a prediction is from its target. A part is called with `(prediction, target)`, both [B, C, H, W].

It gives the elementwise loss [B, C, H, W]; the step reduces, in one place.
"""

from registry.shelf import Shelf, stock

LOSSES = Shelf("loss", runtime=("prediction", "target"))

stock(__name__, __path__)
