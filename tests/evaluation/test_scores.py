"""Scores of a classifier's answers and of classes, against torchmetrics, other formulas, and sets whose answer is plain."""

import pytest
import torch
from torch import Tensor

from ddpm_lab.evaluation.feature_sums import FeatureSums
from ddpm_lab.evaluation.pixels import PixelSample
from ddpm_lab.evaluation.values import values
from registry.metrics import METRICS, InFeatures, Value
from registry.metrics.fid import frechet
from registry.metrics.fid_infinity import frechet_of_infinitely_many
from registry.metrics.gathered import Measured, Statistics
from registry.metrics.inception_score import score
from registry.metrics.moments import Moments

NAMES = ("boot", "bag", "coat")


def _gaussian(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _sums(features: Tensor, logits: Tensor | None, groups: int, *words: object, **options: object) -> FeatureSums:
    """Shown rows of features, and of logits beside them."""

    def look(rows: Tensor) -> tuple[Tensor, Tensor | None]:
        chosen = rows[:, 0].long()
        return features[chosen], None if logits is None else logits[chosen]

    return FeatureSums(look, features.shape[1], len(features), groups, *words, **options)


def _all(reference: Statistics, images: Measured, extrapolate: bool = False) -> dict[str, Value]:
    return values(InFeatures(images, reference, NAMES, True), METRICS.usual("extrapolate" if extrapolate else ""))


def _measured(features: Tensor, logits: Tensor | None = None, labels: Tensor | None = None, groups: int = 10) -> Measured:
    """In batches of 64, as images come."""
    answers = None if logits is None else logits.shape[1]
    sums = _sums(features, logits, groups, labels, len(NAMES), answers)
    for start in range(0, len(features), 64):
        sums.add(start, torch.arange(start, min(start + 64, len(features)))[:, None])
    return sums.measured()


def _reference(features: Tensor, labels: Tensor) -> Statistics:
    sums = _sums(features, None, len(NAMES), labels, len(NAMES), by_label=True)
    sums.add(0, torch.arange(len(features))[:, None])
    return sums.measured()


def test_inception_score_of_one_group_is_that_of_torchmetrics() -> None:
    from torchmetrics.image.inception import InceptionScore

    logits = 3 * _gaussian(500, 5, seed=0)
    theirs = InceptionScore(feature=torch.nn.Identity(), splits=1)
    theirs.update(logits)
    measured = _measured(_gaussian(500, 4, seed=1), logits, groups=1)
    assert measured.answers is not None
    assert score(measured.answers, measured.groups.count).value == pytest.approx(float(theirs.compute()[0]), rel=1e-6)


def test_inception_score_of_certain_answers_is_the_number_of_classes() -> None:
    logits = 100.0 * torch.nn.functional.one_hot(torch.arange(600) % 5, 5).double()
    measured = _measured(_gaussian(600, 4, seed=1), logits, groups=1)
    assert measured.answers is not None
    found = score(measured.answers, measured.groups.count)
    assert found.value == pytest.approx(5)
    assert found.detail == {"groups": 1, "standard deviation": pytest.approx(0, abs=1e-9)}


def test_groups_have_all_classes_where_images_come_in_the_order_of_their_classes() -> None:
    """Ten classes in turn and ten groups: every tenth image would be of one class."""
    labels = torch.arange(25_000) % 10
    logits = 100.0 * torch.nn.functional.one_hot(labels, 10).double()
    sums = _sums(logits, logits, 10, labels, 10, 10)
    sums.add(0, torch.arange(25_000)[:, None])
    measured = sums.measured()
    assert measured.answers is not None
    assert score(measured.answers, measured.groups.count).value == pytest.approx(10, rel=1e-2)
    assert measured.groups.count.tolist() == [2500] * 10
    assert len(measured.some) == 10_000
    shares = measured.some.argmax(dim=1).bincount(minlength=10) / 10_000
    assert (shares - 0.1).abs().max() < 0.01
    judged = PixelSample(20_000)
    judged.add(0, labels[:20_000, None, None, None].to(torch.uint8))
    assert len(judged.images[0].unique()) == 10
    assert sum(map(len, judged.images)) == 1000


def test_statistics_of_sixty_thousand_in_batches_are_those_at_once() -> None:
    features = _gaussian(60_000, 16, seed=0) * torch.logspace(-2, 2, 16) + 3
    labels = torch.arange(60_000) * 7 % 3
    sums = _sums(features, None, 3, labels, 3, by_label=True)
    for start in range(0, 60_000, 500):
        sums.add(start, torch.arange(start, start + 500)[:, None])
    found = sums.measured()
    torch.testing.assert_close(found.moments.total, features.sum(0), rtol=1e-10, atol=0)
    torch.testing.assert_close(found.moments.outer, features.T @ features, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.moments.gaussian()[1], torch.cov(features.T), rtol=1e-9, atol=1e-10)
    own = features[labels == 1]
    torch.testing.assert_close(found.groups[1].outer, own.T @ own, rtol=1e-10, atol=1e-10)


def test_class_distances_tell_classes_apart_where_the_whole_does_not() -> None:
    """Images of the right classes, and the same images said to be of the next class."""
    labels = torch.arange(3000) % 3
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]], dtype=torch.float64)
    reference = _reference(_gaussian(3000, 2, seed=0) + centres[labels], labels)
    features, logits = _gaussian(3000, 2, seed=1) + centres[labels], 9.0 * torch.nn.functional.one_hot(labels, 3).double()
    for asked, distance, agreement in ((labels, 0.0, 1.0), ((labels + 1) % 3, (100 + 100 + 200) / 3, 0.0)):
        measured = _measured(features, logits, asked)
        said = _all(reference, measured)
        assert said["FID"].value < 0.1
        assert said["class_FID"].value == pytest.approx(distance, abs=0.5)
        assert said["class_agreement"].value == agreement
        assert said["class_shares"].value == 0


def test_a_class_that_nobody_has_is_left_out_and_few_images_are_not_extrapolated() -> None:
    labels = torch.arange(90) % 2  # no coats
    reference = _reference(_gaussian(90, 2, seed=0), labels)
    measured = _measured(_gaussian(90, 2, seed=1), None, labels)
    said = _all(reference, measured, extrapolate=True)
    assert list(said["class_FID"].detail or {}) == ["boot", "bag"]
    assert "FID_infinity" not in said


def test_class_shares_are_the_images_that_would_have_to_be_of_another_class() -> None:
    labels = torch.arange(300) % 3
    reference = _reference(_gaussian(300, 2, seed=0), labels)
    only_boots = _measured(_gaussian(300, 2, seed=1), torch.tensor([[9.0, 0.0, 0.0]]).expand(300, 3))
    said = _all(reference, only_boots)
    assert said["class_shares"].value == pytest.approx(2 / 3)
    assert said["class_shares"].detail == {"boot": 1.0, "bag": 0.0, "coat": 0.0}
    assert "class_agreement" not in said  # nobody asked for classes


@pytest.mark.parametrize(("shift", "exact"), [(0.0, 0.0), (1.0, 12.0)])
def test_the_distance_of_infinitely_many_is_nearer_to_the_truth_than_that_of_n(shift: float, exact: float) -> None:
    """Unit Gaussians in twelve dimensions; the truth is the squared shift."""
    reference = Moments(torch.zeros(12).double(), torch.eye(12).double() * (10**9 - 1), torch.tensor(10**9))
    plain, extrapolated = [], []
    for seed in range(20):
        features = _gaussian(1000, 12, seed=seed) + shift
        measured = _measured(features)
        luck = 2 * shift * float((features.mean(0) - shift).sum())  # of the means: zero on average, and large
        plain.append(frechet(reference, measured.moments) - luck)
        extrapolated.append(frechet_of_infinitely_many(reference, measured.groups) - luck)
    biased, straight = (sum(values) / len(values) - exact for values in (plain, extrapolated))
    assert biased > 0.03
    assert abs(straight) < 0.35 * biased
