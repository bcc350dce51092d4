"""mnist_vicreg: a small residual network that learnt digits without their labels; its weights ship with the lab."""

from __future__ import annotations

from pathlib import Path

from registry.datasets.mnist import CLASS_NAMES
from registry.features import FEATURES, MadeFor
from registry.features.gray_networks import SIZE, GrayFeatures
from registry.features.vicreg import WIDTH, VICRegNetwork

WEIGHTS = Path(__file__).with_name("mnist_vicreg.safetensors")


@FEATURES.register("mnist_vicreg")
class MNISTVICRegFeatures(GrayFeatures):
    """Features of MNIST that were learnt without its classes (VICReg, Bardes et al. 2022); works offline, D = 128.

    The classes of its logits are a linear probe's, fitted on the finished features.
    """

    dimension = WIDTH
    class_names = CLASS_NAMES
    classes = len(CLASS_NAMES)
    made_for = MadeFor((SIZE, SIZE), 1, "mnist")

    def __init__(self) -> None:
        super().__init__(VICRegNetwork(), WEIGHTS)
