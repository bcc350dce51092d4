"""Levels evenly spaced in log SNR, without those that barely change the image."""

import torch
from torch import Tensor

from registry.errors import BadInput
from registry.grids import GRIDS
from registry.options import LogSNR
from registry.path import NoisePath


@GRIDS.register("clipped_log_snr")
def clipped_log_snr(path: NoisePath, count: int, *, low: LogSNR = -8.0, high: LogSNR = 5.0) -> Tensor:
    """Evenly spaced log SNRs from `low` to `high`, or the path's ends where they are nearer.

    The spacing is that of Lu et al. 2022a, section 3.4. Over the whole path it gives half of few steps to an image that is
    all noise, or to one without any. The last step here goes from `high` to the clean image.
    Other data may want other bounds: these are for 28 x 28 pixels in benchmarks/reports/nfe.

    Raises:
        BadInput: nothing of the path lies between the bounds.
    """
    ends = -2 * torch.log(torch.tan(path.angle[[-1, 0]]))
    first, last = max(float(ends[0]), low), min(float(ends[1]), high)
    if first > last or low >= high:
        has = f"{ends[0]:.3g} to {ends[1]:.3g}"
        raise BadInput(f"sampling.grid: low {low:g} and high {high:g} leave nothing of the path, whose log SNR is {has}")
    return path.level(torch.linspace(first, last, count, dtype=torch.float64))
