"""Classifier-free guidance, in closed form."""

import pytest
import torch
from torch import Tensor

from registry.guidance import GUIDANCE
from registry.samplers import Denoised

LEVEL, X, Y = torch.tensor(5.0), torch.zeros(2, 1, 1, 1), torch.tensor([0, 1])


@pytest.mark.parametrize(("scale", "x0", "evaluations"), [(0.0, 1.0, 2), (1.0, 3.0, 1), (2.0, 5.0, 2), (0.5, 2.0, 2)])
def test_guidance_extrapolates_from_without_to_with_class(scale: float, x0: float, evaluations: int) -> None:
    calls = []

    def denoise(x: Tensor, level: Tensor, y: Tensor | None) -> Denoised:
        calls.append(y)
        return Denoised(x + (1.0 if y is None else 3.0), x + (10.0 if y is None else 30.0), None)

    guided = GUIDANCE.configure("classifier_free", {"scale": scale})(denoise)(X, LEVEL, Y)
    assert guided.x0.flatten().tolist() == pytest.approx([x0, x0])
    assert guided.eps.flatten().tolist() == pytest.approx([10 * x0, 10 * x0])
    assert len(calls) == evaluations


def test_without_a_class_there_is_nothing_to_guide() -> None:
    seen = []
    guided = GUIDANCE.configure("classifier_free", {"scale": 4.0})(lambda x, level, y: seen.append(y) or Denoised(x, x, None))
    guided(X, LEVEL, None)
    assert seen == [None]
