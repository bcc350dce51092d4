"""Metrics: against scipy and torch-fidelity on the same features, and their protocol."""

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from safetensors.torch import load_file
from torch import Tensor

from ddpm_lab.evaluation.accumulator import numbered
from ddpm_lab.evaluation.evaluate import evaluators
from ddpm_lab.evaluation.evaluator import Evaluator, measure
from ddpm_lab.reports.result_table import result_lines
from registry.choice import Choice
from registry.datasets import ImageSet
from registry.datasets.shapes import shapes
from registry.metrics.fid import frechet
from registry.metrics.gathered import Measured
from registry.metrics.handed_features import HandedFeatures
from registry.metrics.interval import BLOCKS
from registry.metrics.kid import kernel
from registry.metrics.moments import Moments, frechet_from


def _features(count: int, seed: int, shift: float = 0.0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    mix = torch.randn(12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.randn(count, 12, generator=rng, dtype=torch.float64) @ mix + shift


def _measured(evaluator: Evaluator, images: Tensor) -> Measured:
    return measure([evaluator], numbered(images.split(70)), len(images), "", passing=True, blocks=BLOCKS)[0]


def _by_scipy(a: Tensor, b: Tensor) -> float:
    root = scipy.linalg.sqrtm(np.cov(a.numpy(), rowvar=False) @ np.cov(b.numpy(), rowvar=False)).real
    means = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return float(means + np.trace(np.cov(a.numpy(), rowvar=False) + np.cov(b.numpy(), rowvar=False) - 2 * root))


@pytest.mark.parametrize("shift", [0.0, 0.1, 5.0])
def test_frechet_distance_agrees_with_scipy_and_torch_fidelity(shift: float) -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    real, fake = _features(3000, 1), _features(1000, 2, shift)
    ours = frechet(Moments.of(real), Moments.of(fake))
    theirs = fid_statistics_to_metric(fid_features_to_statistics(fake), fid_features_to_statistics(real), verbose=False)
    assert ours == pytest.approx(_by_scipy(real, fake), rel=1e-6)
    assert ours == pytest.approx(frechet_from(Moments.of(real))(Moments.of(fake)), rel=1e-9), "the jackknife's own formula"
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)


def test_frechet_distance_from_sums_is_that_of_torchmetrics_from_the_features() -> None:
    """Bit for bit, so the sums that it is handed are all that it keeps of either set."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    real, fake = _features(3000, 1), _features(1000, 2, 0.1)
    metric = FrechetInceptionDistance(feature=HandedFeatures(12))
    metric.update(real, real=True)
    metric.update(fake, real=False)
    assert frechet(Moments.of(real), Moments.of(fake)) == float(metric.compute())
    assert set(metric.metric_state) == {
        f"{side}_features_{kept}" for side in ("real", "fake") for kept in ("sum", "cov_sum", "num_samples")
    }


def test_frechet_distance_of_a_set_from_itself_is_zero_and_a_shift_costs_its_square() -> None:
    real = _features(3000, 1)
    assert frechet(Moments.of(real), Moments.of(real)) == pytest.approx(0, abs=1e-6)
    assert frechet(Moments.of(real), Moments.of(real + 2.0)) == pytest.approx(12 * 4.0, rel=1e-9)


def test_kernel_distance_agrees_with_torch_fidelity_where_one_subset_is_the_whole_set() -> None:
    from torch_fidelity.metric_kid import kid_features_to_metric

    real, fake = _features(400, 1), _features(400, 2, 0.5)
    theirs = kid_features_to_metric(fake, real, kid_subsets=1, kid_subset_size=400, verbose=False)
    # Every subset of 400 out of 400 is the whole set, in another order.
    assert kernel(real, fake) == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageSet:
    """Shapes of 28 x 28, with a cache of their own."""
    monkeypatch.setenv("DDPM_LAB_CACHE", str(tmp_path))
    return shapes(size=28, count=400)


def _evaluator(data: ImageSet) -> Evaluator:
    return Evaluator(Choice("fashion_cnn", {}), data, torch.device("cpu"))


def test_statistics_in_batches_are_the_statistics_at_once(data: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddpm_lab.evaluation.evaluator.BATCH", 64)
    batched = _evaluator(data).reference
    features = _evaluator(data).extractor(data.train.images)[0].double()
    torch.testing.assert_close(batched.moments.outer, features.T @ features, rtol=1e-5, atol=1e-6)
    assert int(batched.moments.count) == 400


@pytest.mark.parametrize("damage", [b"", b"not safetensors", None])
def test_cached_statistics_are_used_and_damaged_ones_mended(data: ImageSet, tmp_path: Path, damage: bytes | None) -> None:
    before = _evaluator(data).reference
    (file,) = tmp_path.glob("reference/*.safetensors")
    if damage is not None:
        file.write_bytes(damage)
    after = _evaluator(data).reference
    assert torch.equal(before.groups.outer, after.groups.outer)
    assert torch.equal(load_file(file)["outer"], before.groups.outer)


def test_other_data_or_another_extractor_is_another_protocol(data: ImageSet) -> None:
    evaluator, other = _evaluator(data), _evaluator(shapes(size=28, count=400, seed=1))
    prints = {evaluator.protocol("FID", 100).fingerprint, evaluator.protocol("FID", 200).fingerprint,
              evaluator.protocol("KID", 100).fingerprint, other.protocol("FID", 100).fingerprint}  # fmt: skip
    assert len(prints) == 4
    assert evaluator.protocol("FID", 100).fingerprint == _evaluator(data).protocol("FID", 100).fingerprint


def test_the_floor_is_below_noise_and_never_promises_more_images_than_are_held_out(data: ImageSet) -> None:
    evaluator = _evaluator(data)
    noise = torch.randint(0, 256, (300, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for record in evaluator.results(_measured(evaluator, noise), {})[:2]:  # of FID and KID less is better
        assert record.floor_n == len(data.test) == 200
        assert record.floor < 0.2 * record.value, record.metric


def test_blocks_are_parts_of_the_images_and_an_interval_stands_beside_the_value(data: ImageSet) -> None:
    evaluator = _evaluator(data)
    noise = torch.randint(0, 256, (303, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    measured, features = _measured(evaluator, noise), evaluator.features(noise)[0]
    assert measured.groups.count.tolist() == [31, 31, 31, *[30] * 7]
    assert len({round(float(total.sum()), 6) for total in measured.groups.total}) == BLOCKS
    torch.testing.assert_close(measured.moments.outer, features.T @ features)
    fid, kid, precision, recall, density, coverage, _ = evaluator.results(measured, {})
    low, high = fid.interval
    assert low < fid.value < high
    assert fid.floor_interval[0] < fid.floor < fid.floor_interval[1]
    assert kid.interval is None
    # Noise is nowhere near the shapes, and the shapes are held out well.
    for record, name in ((precision, "precision"), (recall, "recall"), (density, "density"), (coverage, "coverage")):
        assert record.metric == name
        assert record.value < 0.1 < 0.5 < record.floor, name
        assert "k = " in record.protocol.metric
    words = ["FID", f"{fid.value:.3f}", f"{low:.3f}", "to", f"{high:.3f}", f"{fid.floor:.3f}"]
    assert list(result_lines([fid]))[1].split()[:6] == words


def test_an_extractor_without_weights_is_reported_and_the_others_stand(data: ImageSet, tmp_path: Path) -> None:
    choices = [Choice("inception_v3", {"weights": str(tmp_path / "none.pth")}), Choice("fashion_cnn", {})]
    ready, missing = evaluators(choices, data, torch.device("cpu"))
    assert [evaluator.name for evaluator in ready] == ["fashion_cnn"]
    assert missing[0].value is None
    assert "no file" in missing[0].unavailable
