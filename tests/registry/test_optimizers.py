"""Optimizers by name and the learning rate over a run."""

import pytest
import torch
from torch import nn

from ddpm_lab.config.learning_rate import Rate
from registry.optimizers import OPTIMIZERS
from registry.optimizers.muon import balanced


@pytest.mark.parametrize("name", [part.name for part in OPTIMIZERS])
def test_every_optimizer_of_torch_descends_a_parabola(name: str) -> None:
    torch.manual_seed(0)
    point = nn.Parameter(torch.tensor([[3.0, -2.0], [1.0, 4.0]]))
    optimizer = OPTIMIZERS.configure(name, {})([point], 0.05)
    before = float(point.square().sum())
    for _ in range(30):
        optimizer.zero_grad()
        point.square().sum().backward()
        optimizer.step()
    assert float(point.square().sum()) < before


@pytest.mark.parametrize("shape", [(3, 20, 70), (2, 64, 32), (1, 48, 48)])
def test_muon_maps_each_singular_value_by_the_quintic_and_leaves_the_vectors(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -2, shape[2])
    a, b, c = coefficients = 3.4445, -4.775, 2.0315
    for ours, matrix in zip(balanced(matrices, coefficients, 5, 1e-7), matrices, strict=True):
        u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
        s = s / s.norm()
        for _ in range(5):
            s = a * s + b * s**3 + c * s**5
        torch.testing.assert_close(ours.double(), (u * s) @ v, atol=1e-4, rtol=0)


@pytest.mark.parametrize("adjust", [None, "original", "match_rms_adamw", "spectral_unclamped"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_treats_kernels_as_the_matrices_that_they_are_and_leaves_thin_ones_to_adamw(adjust: str, nesterov: bool) -> None:
    """Against torch's own, which computes in bfloat16: its rounding is a hundredth of a step."""
    torch.manual_seed(0)
    kernels = [nn.Parameter(torch.randn(24, 4, 3, 3)) for _ in range(2)]
    matrices = [nn.Parameter(kernel.detach().clone().reshape(24, 36)) for kernel in kernels]
    bias = nn.Parameter(torch.randn(24))
    lone = nn.Parameter(bias.detach().clone())
    options = {"weight_decay": 0.1, "nesterov": nesterov, "adjust_lr_fn": adjust}
    ours = OPTIMIZERS.configure("Muon", options)([*kernels, bias], 0.02)
    theirs = [torch.optim.Muon(matrices, lr=0.02, **options),
              torch.optim.AdamW([lone], lr=0.02, betas=(0.9, 0.99), weight_decay=0)]  # fmt: skip
    before = torch.stack([matrix.detach().clone() for matrix in matrices])
    rng = torch.Generator().manual_seed(0)
    for _ in range(3):
        for kernel, matrix in zip(kernels, matrices, strict=True):
            matrix.grad = torch.randn(24, 36, generator=rng)
            kernel.grad = matrix.grad.reshape_as(kernel).clone()
        bias.grad = torch.randn(24, generator=rng)
        lone.grad = bias.grad.clone()
        ours.step()
        for optimizer in theirs:
            optimizer.step()
    moved, wanted = (torch.stack([p.detach().reshape(24, 36) for p in group]) - before for group in (kernels, matrices))
    assert float((moved - wanted).norm() / wanted.norm()) < 0.02
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
