"""Random numbers depend on what they are for, and on nothing else."""

import torch

from ddpm_lab.rng import ImageNoise, epoch_order, generator, shuffled


def _draw(*place: object) -> float:
    return float(torch.rand(1, generator=generator(*place)))  # type: ignore[arg-type]


def test_same_place_same_numbers_other_place_other_numbers() -> None:
    assert _draw(0, "noise", 3) == _draw(0, "noise", 3)
    assert len({_draw(0, "noise", 3), _draw(1, "noise", 3), _draw(0, "level", 3), _draw(0, "noise", 4)}) == 4


def test_the_noise_of_an_image_does_not_depend_on_its_batch() -> None:
    whole, part = ImageNoise(7, range(10), (1, 4, 4)), ImageNoise(7, range(4, 6), (1, 4, 4))
    for _ in range(3):
        assert torch.equal(whole()[4:6], part())


def test_image_noise_is_standard_normal() -> None:
    drawn = ImageNoise(0, range(200), (1, 16, 16))()
    assert abs(float(drawn.mean())) < 0.02
    assert abs(float(drawn.std()) - 1) < 0.02


def test_an_epoch_visits_every_image_once_and_epochs_differ() -> None:
    assert epoch_order(0, 0, 50).sort().values.tolist() == list(range(50))
    assert not torch.equal(epoch_order(0, 0, 50), epoch_order(0, 1, 50))


def test_batches_straddle_epochs_without_loss_or_repetition() -> None:
    batches = shuffled(0, count=10, start=0, size=4)
    seen = torch.cat([next(batches) for _ in range(5)])  # 20 images: two epochs
    assert seen[:10].sort().values.tolist() == list(range(10))
    assert seen[10:].sort().values.tolist() == list(range(10))


def test_data_resumes_at_any_image() -> None:
    batches = shuffled(3, count=10, start=0, size=4)
    whole = torch.cat([next(batches) for _ in range(8)])
    for start in (4, 8, 12, 20):
        assert torch.equal(next(shuffled(3, count=10, start=start, size=4)), whole[start : start + 4])


def test_a_batch_may_be_larger_than_an_epoch() -> None:
    assert next(shuffled(0, count=3, start=0, size=7)).bincount().tolist() in ([3, 2, 2], [2, 3, 2], [2, 2, 3])
