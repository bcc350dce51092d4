"""Optimizers by name and the learning rate over a run."""

import math

import pytest
import torch
from torch import nn

from ddpm_lab.ema import ExponentialAverage
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


def test_an_average_without_ramp_follows_the_closed_form() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    average = ExponentialAverage(network, half_life=100, ramp=None)
    nn.init.ones_(network.weight)
    for step in range(1, 11):
        average.update(network, images=20 * step, batch=20)
    assert float(average.network.weight) == pytest.approx(1 - 0.5 ** (200 / 100))  # type: ignore[arg-type]


def test_a_ramped_average_forgets_the_initialisation() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1000.0)
    slow, ramped = (ExponentialAverage(network, half_life=1e6, ramp=ramp) for ramp in (None, 0.05))
    nn.init.ones_(network.weight)
    for step in range(1, 51):
        for average in (slow, ramped):
            average.update(network, images=64 * step, batch=64)
    assert float(slow.network.weight) > 900  # type: ignore[arg-type]
    assert float(ramped.network.weight) == pytest.approx(1.0, abs=1e-3)  # type: ignore[arg-type]


def test_an_average_shares_no_memory_with_its_network() -> None:
    network = nn.Linear(2, 2)
    average = ExponentialAverage(network, half_life=10, ramp=None)
    before = average.network.weight.clone()  # type: ignore[operator]
    with torch.no_grad():
        network.weight.add_(1)
    assert torch.equal(average.network.weight, before)  # type: ignore[arg-type]
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert math.isfinite(float(before.sum()))
