"""Optimizers by name and the learning rate over a run."""

import pytest
import torch
from torch import nn

from ddpm_lab.optimizer import Rate, build_optimizer, known_optimizers


@pytest.mark.parametrize("name", sorted(known_optimizers()))
def test_every_optimizer_of_torch_descends_a_parabola(name: str) -> None:
    torch.manual_seed(0)
    point = nn.Parameter(torch.tensor([[3.0, -2.0], [1.0, 4.0]]))
    optimizer = build_optimizer(name, {}, [point], rate=0.05)
    before = float(point.square().sum())
    for _ in range(30):
        optimizer.zero_grad()
        point.square().sum().backward()
        optimizer.step()
    assert float(point.square().sum()) < before


def test_muon_treats_a_kernel_as_the_matrix_that_it_is_and_leaves_thin_ones_to_adamw() -> None:
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(24, 4, 3, 3))
    matrix, bias = nn.Parameter(kernel.detach().clone().reshape(24, 36)), nn.Parameter(torch.randn(24))
    lone = nn.Parameter(bias.detach().clone())
    ours = build_optimizer("Muon", {"weight_decay": 0.1}, [kernel, bias], rate=0.02)
    theirs = [torch.optim.Muon([matrix], lr=0.02, weight_decay=0.1),
              torch.optim.AdamW([lone], lr=0.02, betas=(0.9, 0.99), weight_decay=0)]  # fmt: skip
    for step in range(3):
        gradient = torch.randn(24, 36, generator=torch.Generator().manual_seed(step))
        kernel.grad, matrix.grad = gradient.reshape_as(kernel), gradient.clone()
        bias.grad = gradient[:, 0].clone()
        lone.grad = gradient[:, 0].clone()
        ours.step()
        for optimizer in theirs:
            optimizer.step()
    torch.testing.assert_close(kernel.detach().reshape(24, 36), matrix.detach())
    torch.testing.assert_close(bias.detach(), lone.detach())


def test_warm_up_rises_linearly_and_ends() -> None:
    rate = Rate(peak=2.0, warmup=100)
    assert rate.at(49, 1000) == pytest.approx(1.0)
    assert rate.at(99, 1000) == rate.at(900, 1000) == 2.0


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_decay_begins_and_ends_where_it_should(decay: str) -> None:
    rate = Rate(peak=1.0, decay=decay, decay_from=0.4, final=0.1)  # type: ignore[arg-type]
    assert rate.at(400, 1000) == 1.0
    assert rate.at(700, 1000) == pytest.approx(0.55)  # both are half way down at half way
    assert rate.at(1000, 1000) == pytest.approx(0.1)


def test_inverse_square_root_halves_when_the_images_quadruple() -> None:
    rate = Rate(peak=1.0, decay="inverse_sqrt", decay_from=0.1)
    assert rate.at(400, 1000) == pytest.approx(0.5)
    assert rate.at(900, 1000) == pytest.approx(1 / 3)
