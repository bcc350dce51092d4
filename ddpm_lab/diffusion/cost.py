"""What a pass through a network costs."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ddpm_lab.diffusion.model import DataShape, Model


def flops_per_image(model: Model, shape: DataShape) -> int:
    """Floating-point operations of one forward pass for one image, a multiplication and an addition counted as two."""
    network: Any = copy.deepcopy(model.network).to("meta")
    y = None if model.classes is None else torch.zeros(1, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        network(torch.zeros(1, *shape.image_shape), torch.zeros(1), y)
    return int(counter.get_total_flops())


def flops_if_countable(model: Model, shape: DataShape) -> int | None:
    """The same, or None for a network that cannot be run without numbers: no run fails because of it."""
    try:
        return flops_per_image(model, shape)
    except Exception:  # a plugin's network may look at values, which a tensor without data does not have
        return None
