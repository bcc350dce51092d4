"""Averages of the weights: closed forms, the numbers of EDM2, and averages made afterwards against those tracked directly."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Quick
from safetensors.torch import load_file, save_file
from torch import nn

import ddpm_lab
from ddpm_lab.inference.post_hoc_ema import Profile, combination, overlap
from ddpm_lab.training.ema import Average
from registry.averages import AVERAGES
from registry.averages.exponential import Exponential
from registry.averages.power import Power
from registry.averages.profile import WIDEST, gamma_of, std_of
from registry.errors import BadInput


def test_an_average_without_ramp_follows_the_closed_form() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    average = Average(network, Exponential(half_life=100, ramp=None))
    nn.init.ones_(network.weight)
    for step in range(1, 11):
        average.update(images=20 * step, batch=20)
    assert float(average.network.weight) == pytest.approx(1 - 0.5 ** (200 / 100))  # type: ignore[arg-type]


def test_a_ramped_average_forgets_the_initialisation() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1000.0)
    slow, ramped = (Average(network, Exponential(half_life=1e6, ramp=ramp)) for ramp in (None, 0.05))
    nn.init.ones_(network.weight)
    for step in range(1, 51):
        for average in (slow, ramped):
            average.update(images=64 * step, batch=64)
    assert float(slow.network.weight) > 900  # type: ignore[arg-type]
    assert float(ramped.network.weight) == pytest.approx(1.0, abs=1e-3)  # type: ignore[arg-type]


def test_an_average_shares_no_memory_with_its_network() -> None:
    network = nn.Linear(2, 2)
    average = Average(network, Exponential(half_life=10, ramp=None))
    before = average.network.weight.clone()  # type: ignore[operator]
    with torch.no_grad():
        network.weight.add_(1)
    assert torch.equal(average.network.weight, before)  # type: ignore[arg-type]
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert math.isfinite(float(before.sum()))


# Karras et al. 2024, EDM2, section 3.1: sigma_rel 0.05 and 0.10 are gamma 16.97 and 6.94.
@pytest.mark.parametrize(("std", "gamma"), [(0.05, 16.97), (0.10, 6.94)])
def test_gamma_is_the_one_of_the_paper(std: float, gamma: float) -> None:
    assert gamma_of(std) == pytest.approx(gamma, abs=0.005)


@pytest.mark.parametrize("std", [0.001, 0.01, 0.05, 0.1, 0.2, 0.28])
def test_the_relative_width_is_the_standard_deviation_of_the_profile(std: float) -> None:
    assert std_of(gamma_of(std)) == pytest.approx(std, rel=1e-6)
    tau = (np.arange(2_000_000) + 0.5) / 2_000_000
    weight = tau ** gamma_of(std)
    mean = (weight * tau).sum() / weight.sum()
    assert math.sqrt((weight * (tau - mean) ** 2).sum() / weight.sum()) == pytest.approx(std, rel=1e-4)


def test_no_profile_is_wider_than_a_flat_one() -> None:
    assert std_of(0) == pytest.approx(WIDEST)
    with pytest.raises(BadInput, match=r"less than or equal to 0\.28"):
        AVERAGES.configure("power", {"std": 0.3})


@pytest.mark.parametrize("std", [0.05, 0.1, 0.25])
def test_the_average_tracked_weighs_the_moments_by_a_power(std: float) -> None:
    """Against the weighted sum over all moments, whose weights are tau^gamma but for the discretisation."""
    rng = np.random.default_rng(0)
    steps, batch = 4000, 64
    walk = np.cumsum(rng.standard_normal(steps)) / math.sqrt(steps)
    decay, average = Power(std=std), 0.0
    for step, value in enumerate(walk, start=1):
        kept = decay(step * batch, batch)
        average = kept * average + (1 - kept) * value
    weight = (np.arange(1, steps + 1) / steps) ** gamma_of(std)
    assert average == pytest.approx((weight * walk).sum() / weight.sum(), abs=2e-3)
    assert Power(std=std)(batch, batch) == 0  # the first step forgets the initialisation whole


def test_profiles_overlap_as_quadrature_says() -> None:
    for one, other in (((1000, 0.05), (700, 0.1)), ((300, 0.2), (1000, 0.01)), ((500, 0.1), (500, 0.1))):
        a, b = Profile(*one), Profile(*other)
        tau = (np.arange(4_000_000) + 0.5) / 4_000_000 * min(a.time, b.time)
        product = np.ones_like(tau)
        for profile in (a, b):
            gamma = gamma_of(profile.std)
            product *= (gamma + 1) / profile.time * (tau / profile.time) ** gamma
        assert overlap(a, b) == pytest.approx(product.mean() * min(a.time, b.time), rel=1e-4)


SNAPSHOTS = [Profile(time, std) for time in range(250, 4001, 250) for std in (0.05, 0.1)]


@pytest.mark.parametrize(("std", "mark"), [(0.05, 1e-6), (0.06, 0.01), (0.08, 0.01), (0.1, 1e-6), (0.15, 0.01), (0.2, 0.03)])
def test_averages_made_afterwards_are_those_tracked_directly(std: float, mark: float) -> None:
    rng = np.random.default_rng(1)
    walk = np.cumsum(rng.standard_normal((4000, 50)), axis=0)
    tracked = {wanted: np.zeros(50) for wanted in (0.05, 0.1, std)}
    decays = {wanted: Power(std=wanted) for wanted in tracked}
    stored = {}
    for step, value in enumerate(walk, start=1):
        for wanted, average in tracked.items():
            kept = decays[wanted](step, 1)
            tracked[wanted] = kept * average + (1 - kept) * value
            if step % 250 == 0:
                stored[Profile(step, wanted)] = tracked[wanted]
    factors, distance = combination(SNAPSHOTS, Profile(4000, std))
    made = sum(factor * stored[profile] for factor, profile in zip(factors, SNAPSHOTS, strict=True))
    error = np.linalg.norm(made - tracked[std]) / np.linalg.norm(tracked[std] - walk[-1])
    print(f"std {std}: profile {distance:.1e}, average {error:.1e}")
    assert error < mark
    assert distance < mark
    assert sum(factors) == pytest.approx(1, abs=1e-9)


def test_what_snapshots_cannot_make_is_far_from_it() -> None:
    _, distance = combination(SNAPSHOTS, Profile(4000, 0.005))
    assert distance > 0.3


AVERAGED = [
    "train.ema=[{name: power, std: 0.05}, {name: power, std: 0.1}, {half_life: 640}, {name: power, std: 0.15}]",
    "train.snapshots_every=320",
]


def test_a_run_keeps_several_averages_and_makes_others_from_its_snapshots(quick: Quick, tmp_path: Path) -> None:
    done = quick("run", "smoke", *AVERAGED, "train.snapshots_every=160", "--results", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    run = (tmp_path / "results/latest").resolve()
    known = {file.stem for file in run.glob("*.safetensors")}
    assert known == {"raw", "ema", "ema_2", "ema_3", "ema_4"}
    assert len(list((run / "snapshots").iterdir())) == 20 * 3
    done = quick("ema", run, "--std", "0.15", "0.08", "0.05")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"ema_std0\.\d+\.safetensors: after 3,200 images, from 60 snapshots", done.stderr)) == 3
    weights = {name: _flat(run / f"{name}.safetensors") for name in ("raw", "ema", "ema_4", "ema_std0.150", "ema_std0.050")}
    for made, tracked in (("ema_std0.150", "ema_4"), ("ema_std0.050", "ema")):
        error = float((weights[made] - weights[tracked]).norm() / (weights[tracked] - weights["raw"]).norm())
        assert error < 1e-4, (made, error)  # they are among the snapshots
    # Without its own snapshots, 0.15 has to be made from those of 0.05 and 0.1; the steps are few, 100 in all.
    for file in (run / "snapshots").glob("*-ema_4.safetensors"):
        file.unlink()
    assert quick("ema", run, "--std", "0.15").returncode == 0
    error = float(
        (_flat(run / "ema_std0.150.safetensors") - weights["ema_4"]).norm() / (weights["ema_4"] - weights["raw"]).norm()
    )
    assert error < 0.05, error
    images = [ddpm_lab.load(run).sample(2, weights=name) for name in ("auto", "ema", "ema_std0.080", "raw")]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    assert not torch.equal(images[2], images[3])
    done = quick("evaluate", run, "-n", "64", "--weights", "ema_std0.080")
    assert "ema_std0.080 weights" in done.stdout


def _flat(file: Path) -> torch.Tensor:
    return torch.cat([value.flatten().double() for _, value in sorted(load_file(file).items())])


def test_a_run_without_snapshots_is_told_how_to_have_them(quick: Quick, smoke_run: Path) -> None:
    done = quick("ema", smoke_run, "--std", "0.08")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no snapshots of power-function averages" in done.stderr
    assert "train.snapshots_every" in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--std", "0.5"], "less than or equal to 0.28"),
        (["--std", "nan"], "std"),
        (["--std", "wide"], "invalid float"),
        ([], "--std"),
    ],
)
def test_a_length_that_is_none_costs_one_line(words: list[str], expected: str, quick: Quick, smoke_run: Path) -> None:
    done = quick("ema", smoke_run, *words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert expected in done.stderr


def test_a_damaged_snapshot_is_named(quick: Quick, smoke_run: Path, tmp_path: Path) -> None:
    import shutil

    run = tmp_path / "smoke/run"
    shutil.copytree(smoke_run, run)
    (run / "snapshots").mkdir()
    save_file({"x": torch.zeros(1)}, run / "snapshots/000000640.safetensors")
    done = quick("ema", run, "--std", "0.08")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "000000640.safetensors: not a snapshot" in done.stderr


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.ema={name: power, width: 0.1}", "train.ema.width: average 'power' has no option 'width'"),
        ("train.ema={name: powr}", "did you mean 'power'"),
        ("train.ema=[{half_life: 100}, {name: power, std: 3}]", "train.ema.1.std"),
        ("train.ema=[{half_life: 100}, 7]", "expected an average such as"),
        ("train.ema=3", "expected an average such as"),
        ("sampling.weights=ema_2", "this run will have no 'ema_2', but raw, ema"),
        ("sampling.weights=best", "sampling.weights"),
    ],
)
def test_averages_that_are_none_cost_one_line(override: str, words: str, quick: Quick, tmp_path: Path) -> None:
    done = quick("run", "smoke", override, "--results", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert words in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_new_kind_of_average_drops_the_options_of_the_old_one() -> None:
    from ddpm_lab.config.load import dump, load_recipe

    found = load_recipe("smoke", ["train.ema.name=power", "train.ema.std=0.07"]).experiment
    assert found.train.ema.flat() == {"name": "power", "std": 0.07}
    assert load_recipe("smoke", ["train.ema=power"]).experiment.train.ema.flat() == {"name": "power", "std": 0.1}
    assert list(load_recipe("smoke", AVERAGED).experiment.train.averages) == ["ema", "ema_2", "ema_3", "ema_4"]
    assert load_recipe("smoke", ["train.ema=[]"]).experiment.train.averages == {}
    assert "half_life: 640" in dump(load_recipe("smoke", AVERAGED).experiment)
