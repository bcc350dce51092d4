"""Classifier-free guidance, in closed form."""

import pytest
import torch
from torch import Tensor

from registry.guidance import GUIDANCE, ConditionalDenoise
from registry.samplers import Denoised
from registry.schedules.cosine import cosine

PATH = cosine(100)
LEVEL, X, Y = torch.tensor(5.0), torch.zeros(2, 1, 1, 1), torch.tensor([0, 1])


def _no_guide(_: str) -> ConditionalDenoise:
    raise AssertionError("no guide was asked for")


@pytest.mark.parametrize(("scale", "x0", "evaluations"), [(0.0, 1.0, 2), (1.0, 3.0, 1), (2.0, 5.0, 2), (0.5, 2.0, 2)])
def test_guidance_extrapolates_from_without_to_with_class(scale: float, x0: float, evaluations: int) -> None:
    calls = []

    def denoise(x: Tensor, level: Tensor, y: Tensor | None) -> Denoised:
        calls.append(y)
        return Denoised(x + (1.0 if y is None else 3.0), x + (10.0 if y is None else 30.0), None)

    guided = GUIDANCE.configure("classifier_free", {"scale": scale})(denoise, PATH, _no_guide)(X, LEVEL, Y)
    assert guided.x0.flatten().tolist() == pytest.approx([x0, x0])
    assert guided.eps.flatten().tolist() == pytest.approx([10 * x0, 10 * x0])
    assert len(calls) == evaluations


def test_without_a_class_there_is_nothing_to_guide() -> None:
    seen = []

    def denoise(x: Tensor, level: Tensor, y: Tensor | None) -> Denoised:
        seen.append(y)
        return Denoised(x, x, None)

    GUIDANCE.configure("classifier_free", {"scale": 4.0})(denoise, PATH, _no_guide)(X, LEVEL, None)
    assert seen == [None]


def _two(x: Tensor, level: Tensor, y: Tensor | None) -> Denoised:
    """Images of standard deviation 1 with their class, 3 without."""
    alpha, sigma = PATH.at(level)
    x0 = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64).reshape(1, 1, 1, 3) * (3.0 if y is None else 1.0)
    return Denoised(x0, (x - alpha * x0) / sigma, None)


@pytest.mark.parametrize(("level", "evaluations"), [(5.0, 1), (50.0, 2), (95.0, 1)])
def test_outside_of_its_interval_nothing_is_guided(level: float, evaluations: int) -> None:
    calls = []

    def denoise(x: Tensor, level: Tensor, y: Tensor | None) -> Denoised:
        calls.append(y)
        return _two(x, level, y)

    alpha, sigma = PATH.at(torch.tensor([20.0, 80.0]))
    options = {"scale": 2.0, "interval": (sigma / alpha).tolist()}
    GUIDANCE.configure("classifier_free", options)(denoise, PATH, _no_guide)(X, torch.tensor(level), Y)
    assert len(calls) == evaluations


def test_rescaling_gives_back_the_standard_deviation_and_keeps_x_t() -> None:
    x, level = torch.full((1, 1, 1, 3), 0.5, dtype=torch.float64), torch.tensor(40.0)
    alpha, sigma = PATH.at(level)
    for rescale, deviation in ((0.0, 1.0), (1.0, 1.0), (0.5, 1.0)):
        options = {"scale": 2.0, "rescale": rescale}
        found = GUIDANCE.configure("classifier_free", options)(_two, PATH, _no_guide)(x, level, Y)
        torch.testing.assert_close(alpha * found.x0 + sigma * found.eps, x)
        assert float(found.x0.std()) == pytest.approx(deviation)  # scale 2 makes 2 - 3 = -1 of it
    options = {"scale": 3.0, "rescale": 0.5}
    found = GUIDANCE.configure("classifier_free", options)(_two, PATH, _no_guide)(x, level, Y)
    assert float(found.x0.std()) == pytest.approx(0.5 * 3 + 0.5 * 1)  # scale 3: 3 * 1 - 2 * 3 = -3


def test_autoguidance_leads_away_from_the_poorer_model() -> None:
    asked = []

    def load(name: str) -> ConditionalDenoise:
        asked.append(name)
        return lambda x, level, y: Denoised(x + 2.0, x + 20.0, None)

    def good(x: Tensor, level: Tensor, y: Tensor | None) -> Denoised:
        return Denoised(x + 3.0, x + 30.0, None)

    found = GUIDANCE.configure("autoguidance", {"guide": "there", "scale": 3.0})(good, PATH, load)(X, LEVEL, Y)
    assert found.x0.flatten().tolist() == pytest.approx([5.0, 5.0])
    assert found.eps.flatten().tolist() == pytest.approx([50.0, 50.0])
    assert asked == ["there"]
