"""Grids: where their levels lie."""

import math

import pytest
import torch

from registry.errors import BadInput
from registry.grids.clipped_log_snr import clipped_log_snr
from registry.path import NoisePath
from registry.schedules.cosine import cosine
from registry.schedules.flow import flow


def _log_snrs(path: NoisePath, levels: torch.Tensor) -> list[float]:
    alpha, sigma = path.at(levels)
    return [2 * math.log(float(a / s)) for a, s in zip(alpha, sigma, strict=True)]


@pytest.mark.parametrize("path", [cosine(1000), flow(1000)])
def test_a_clipped_grid_spaces_the_log_snr_evenly_between_its_bounds(path: NoisePath) -> None:
    levels = clipped_log_snr(path, 14, low=-8, high=5)
    assert _log_snrs(path, levels) == pytest.approx([-8.0 + k for k in range(14)], abs=1e-6)


def test_bounds_beyond_the_path_are_its_ends() -> None:
    path = cosine(1000)
    assert clipped_log_snr(path, 5, low=-90, high=90)[[0, -1]].tolist() == pytest.approx([999, 0], abs=1e-6)


def test_bounds_between_which_the_path_has_nothing_are_refused() -> None:
    for low, high in ((5, 5), (6, -6), (20, 30)):
        with pytest.raises(BadInput, match=r"leave nothing of the path, whose log SNR is -19\.8 to 10\.1"):
            clipped_log_snr(cosine(1000), 5, low=low, high=high)
