"""Where guidance applies, and how it extrapolates."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import Tensor

from registry.errors import BadInput
from registry.options import NonNegative
from registry.path import NoisePath
from registry.samplers import Denoised


def _rising(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] >= interval[1]:
        raise BadInput(f"from {interval[0]:g} to {interval[1]:g} is not an interval")
    return interval


Interval = Annotated[tuple[NonNegative, NonNegative], AfterValidator(_rising)]


def inside(interval: Interval | None, path: NoisePath, level: Tensor) -> bool:
    """Whether sigma / alpha at that level lies in the interval; None stands for all."""
    if interval is None:
        return True
    low, high = interval
    return low <= float(torch.exp(-0.5 * path.log_snr(level))) <= high


def extrapolated(good: Denoised, poor: Denoised, scale: float) -> Denoised:
    """poor + scale (good - poor), in x0 and in eps alike; the channels for the variance are those of the good one."""
    return Denoised(torch.lerp(poor.x0, good.x0, scale), torch.lerp(poor.eps, good.eps, scale), good.extra)
