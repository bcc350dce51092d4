"""Losses, against torch's own."""

import pytest
import torch
from torch.nn.functional import l1_loss, mse_loss, smooth_l1_loss

from registry.losses import LOSSES

A, B = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("l1", {}, l1_loss(A, B, reduction="none")),
        ("l2", {}, mse_loss(A, B, reduction="none")),
        ("huber", {}, smooth_l1_loss(A, B, reduction="none")),  # the same at delta 1
        ("huber", {"delta": 0.3}, 0.3 * smooth_l1_loss(A, B, reduction="none", beta=0.3)),
    ],
)
def test_a_loss_is_elementwise_and_torchs(name: str, options: dict[str, float], theirs: torch.Tensor) -> None:
    torch.testing.assert_close(LOSSES.configure(name, options)(A, B), theirs)


def test_huber_is_quadratic_within_delta_and_linear_beyond() -> None:
    error, zero = torch.tensor([0.1, 0.2, 5.0, 10.0]), torch.zeros(4)
    small, twice, far, farther = LOSSES.configure("huber", {"delta": 0.5})(error, zero).tolist()
    assert twice == pytest.approx(4 * small)
    assert farther - far == pytest.approx(0.5 * 5.0)
