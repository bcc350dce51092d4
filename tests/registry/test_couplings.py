"""Couplings: the pairs that they promise, and both marginals kept."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from registry.couplings import COUPLINGS, Coupling


def _batch(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 3, 3, generator=rng) * 2 - 1, torch.randn(count, 1, 3, 3, generator=rng)


def _nothing(run: str, indices: range) -> tuple[Tensor, Tensor, Tensor | None]:
    raise AssertionError("no run is sampled here")


def _coupling(name: str, **options: object) -> Coupling:
    return COUPLINGS.configure(name, options)(_nothing)  # type: ignore[no-any-return]


def _distance(x0: Tensor, eps: Tensor) -> float:
    return float(((x0 - eps) ** 2).sum())


@pytest.mark.parametrize("seed", range(5))
def test_optimal_transport_is_the_best_of_all_pairings(seed: int) -> None:
    x0, eps = _batch(6, seed)
    best = min(_distance(x0, eps[list(order)]) for order in itertools.permutations(range(6)))
    paired = _coupling("optimal_transport")(x0, eps, None, torch.Generator())
    assert _distance(*paired) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("name", ["independent", "optimal_transport"])
def test_the_marginals_are_kept(name: str) -> None:
    x0, eps = _batch(64)
    images, noise = _coupling(name)(x0, eps, None, torch.Generator())
    assert torch.equal(images, x0), "classes and images stay where they are"
    assert torch.equal(noise.flatten(1).sort(dim=0).values, eps.flatten(1).sort(dim=0).values)
    assert {tuple(row.tolist()) for row in noise.flatten(1)} == {tuple(row.tolist()) for row in eps.flatten(1)}


def test_optimal_transport_brings_noise_nearer_and_less_so_within_classes() -> None:
    x0, eps = _batch(256)
    y = torch.arange(256) % 8
    free, within = (_distance(*_coupling("optimal_transport")(x0, eps, labels, torch.Generator())) for labels in (None, y))
    assert free < within < _distance(x0, eps)


def test_within_a_class_only_its_own_noise_is_dealt_out_again() -> None:
    x0, eps = _batch(60)
    y = torch.arange(60) % 3
    _, noise = _coupling("optimal_transport")(x0, eps, y, torch.Generator())
    for label in range(3):
        own = {tuple(row.tolist()) for row in eps[y == label].flatten(1)}
        assert {tuple(row.tolist()) for row in noise[y == label].flatten(1)} == own


def test_reflow_gives_pairs_of_the_run_and_of_the_class() -> None:
    def sampled(run: str, indices: range) -> tuple[Tensor, Tensor, Tensor | None]:
        assert run == "there"
        noise = torch.arange(len(indices)).float()[:, None, None, None].expand(-1, 1, 3, 3)
        return 100 + noise, noise, torch.arange(len(indices)) % 3

    coupling = COUPLINGS.configure("reflow", {"run": "there", "pairs": 90})(sampled)
    x0, eps = _batch(32)
    y = torch.arange(32) % 3
    images, noise = coupling(x0, eps, y, torch.Generator().manual_seed(0))
    assert torch.equal(images, 100 + noise)
    assert torch.equal(noise[:, 0, 0, 0].long() % 3, y)
    assert len(noise[:, 0, 0, 0].unique()) > 15, "not the same pair again and again"
    again, _ = coupling(x0, eps, y, torch.Generator().manual_seed(0))
    other, _ = coupling(x0, eps, y, torch.Generator().manual_seed(1))
    assert torch.equal(images, again)
    assert not torch.equal(images, other)
