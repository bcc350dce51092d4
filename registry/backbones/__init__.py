"""Backbones: the networks. A part is an `nn.Module` built from `(image_shape, classes, channels_out)`.

Its call is `(x [B, C, H, W], label [B], y [B] or None) -> [B, channels_out, H, W]`: the noisy image, the noise label
(1000 level / T unless the target says otherwise), and the class. Where `classes` is a number K, `y` holds 0 .. K - 1, or
K for "no class", which is also what None means.
"""

from registry.shelf import Shelf, stock

BACKBONES = Shelf("backbone", runtime=("image_shape", "classes", "channels_out"))

stock(__name__, __path__)
