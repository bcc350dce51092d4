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
        ("log_cosh", {}, torch.log(torch.cosh((A - B).double())).float()),
        ("pseudo_huber", {"delta": 0.3}, 0.09 * ((1 + ((A - B).double() / 0.3) ** 2).sqrt() - 1).float()),
    ],
)
def test_a_loss_is_elementwise_and_torchs(name: str, options: dict[str, float], theirs: torch.Tensor) -> None:
    torch.testing.assert_close(LOSSES.configure(name, options)(A, B), theirs)


def test_huber_is_quadratic_within_delta_and_linear_beyond() -> None:
    error, zero = torch.tensor([0.1, 0.2, 5.0, 10.0]), torch.zeros(4)
    small, twice, far, farther = LOSSES.configure("huber", {"delta": 0.5})(error, zero).tolist()
    assert twice == pytest.approx(4 * small)
    assert farther - far == pytest.approx(0.5 * 5.0)


@pytest.mark.parametrize("name", ["log_cosh", "pseudo_huber"])
def test_a_smooth_loss_neither_overflows_far_away_nor_loses_its_digits_near_zero(name: str) -> None:
    loss = LOSSES.configure(name, {})
    far, near = loss(torch.tensor([1e4, -1e4, 1e-4]), torch.zeros(3)).tolist()[::2]
    assert far == pytest.approx(1e4, rel=1e-3)
    assert near == pytest.approx(0.5e-8, rel=1e-1)
