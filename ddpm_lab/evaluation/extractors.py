"""The extractors that a run asks for: whether each suits the data, and that it takes its images."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ddpm_lab.diffusion.build import build_part
from registry.blame import on_behalf_of
from registry.choice import Choice
from registry.datasets import ImageSet
from registry.errors import BadInput
from registry.features import FEATURES, Extractor, made_for

CAVEAT = "not made for this data"


def suits(choice: Choice, data: ImageSet) -> bool:
    """Whether an extractor was made for such data, as far as it says."""
    return made_for(FEATURES.part(choice.name).make).fits(data.image_shape, data.name)


def suited_first(choices: Iterable[Choice], data: ImageSet) -> list[Choice]:
    """Those that were made for such data, then the others."""
    return sorted(choices, key=lambda choice: not suits(choice, data))


def tried_extractor(choice: Choice, data: ImageSet, device: torch.device) -> Extractor:
    """An extractor that has shown that it takes the images of that data.

    Raises:
        PartFails: it does not, or does not say what it is.
        BadInput: its weights cannot be had.
    """
    if len(data.train) < 2:
        raise BadInput(f"dataset: '{data.name}' has one training image, and a distance between distributions needs two")
    extractor = build_part(FEATURES, choice)
    with on_behalf_of("features", choice.name, "cannot evaluate images"):
        told = ("dimension", "hash", "resize", "classes", "class_names")
        if lacking := [name for name in told if not hasattr(extractor, name)]:
            raise TypeError(f"lacks {', '.join(lacking)}; see registry/features/__init__.py")
        features, logits = extractor(data.train.rows(torch.tensor([0, len(data.train) - 1])).to(device))
        for found, width, what in ((features, extractor.dimension, "features"), (logits, extractor.classes, "logits")):
            if found is not None and tuple(found.shape) != (2, width):
                raise ValueError(f"gives {what} {list(found.shape)} of two images, where [2, {width}] is expected")
    return extractor
