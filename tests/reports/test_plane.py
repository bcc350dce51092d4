"""The pictures of points in the plane, where the answer is known."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from ddpm_lab.config.load import load_recipe
from ddpm_lab.reports.plane import HALF, SIDE, TAU, detour, draw_plane, paths, vector_field
from ddpm_lab.runner.prepare import Prepared, prepare


@pytest.fixture(scope="module", params=["flow", "cosine", "edm"])
def untrained(request: pytest.FixtureRequest) -> Prepared:
    """A network that predicts 0, which for this target is that nothing moves."""
    words = [f"schedule={request.param}", "dataset.count=256", "sampling.steps=8"]
    return prepare(load_recipe("toy2d", words).experiment, torch.device("cpu"), lambda: 1)


def test_what_does_not_move_stays(untrained: Prepared) -> None:
    sampler = untrained.sampler(untrained.trainer.network)
    walked = paths(sampler, 5, 0)
    assert walked.shape == (9, 5, 2)
    torch.testing.assert_close(walked, walked[:1].expand_as(walked), rtol=1e-4, atol=1e-4)
    places, velocity, tau = vector_field(sampler)
    assert places.shape == velocity.shape == (SIDE**2, 2)
    assert float(places.abs().max()) == pytest.approx(HALF)
    assert tau == pytest.approx(TAU, abs=0.01)
    torch.testing.assert_close(velocity, torch.zeros_like(velocity), rtol=0, atol=1e-5)


def test_the_picture_has_three_parts(untrained: Prepared, tmp_path: Path) -> None:
    network = untrained.trainer.network
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    draw_plane(tmp_path / "plane.png", untrained.sampler(network), next(untrained.data.test.batches(128)), 0)
    with Image.open(tmp_path / "plane.png") as picture:
        assert picture.width > 2 * picture.height
        assert len(picture.convert("RGB").getcolors(2**20) or []) > 100


def test_a_detour_is_measured() -> None:
    angle = torch.linspace(0, math.pi, 1000)
    half_circle = torch.stack([angle.cos(), angle.sin()], dim=-1)[:, None]
    line = torch.stack([angle, 2 * angle], dim=-1)[:, None]
    assert detour(half_circle) == pytest.approx(math.pi / 2, rel=1e-4)
    assert detour(line) == pytest.approx(1, rel=1e-5)
