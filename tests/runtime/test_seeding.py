"""Random numbers depend on what they are for, and on nothing else."""

import numpy as np
import torch

from ddpm_lab.runtime.seeding import ImageNoise, epoch_order, generator, protocol_generator, restart, shuffled


def _draw(*place: object) -> float:
    return float(torch.rand(1, generator=generator(*place)))  # type: ignore[arg-type]


def test_same_place_same_numbers_other_place_other_numbers() -> None:
    assert _draw(0, "noise", 3) == _draw(0, "noise", 3)
    assert len({_draw(0, "noise", 3), _draw(1, "noise", 3), _draw(0, "level", 3), _draw(0, "noise", 4)}) == 4


def test_no_two_of_200_000_streams_begin_alike() -> None:
    """With 32 bits of a seed some 5 pairs of them would; images 31104 and 47634 of seed 0 did."""
    bits = torch.empty(2, dtype=torch.int64)
    found, raw = set[bytes](), bits.numpy()
    for index in range(200_000):
        bits.random_(-(2**63), None, generator=generator(0, "sample", index))
        found.add(raw.tobytes())
    assert len(found) == 200_000


def test_a_stream_is_that_of_numpys_mersenne_twister_with_the_same_words() -> None:
    """Torch documents no layout for a generator's state: here another implementation reads the words that were put there."""
    stream = generator(3, "noise", 5)
    words = stream.get_state().numpy().view("<u8")[3:627].astype(np.uint32)
    twister = np.random.MT19937()
    twister.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": 624}}
    ours = torch.empty(2000, dtype=torch.int64).random_(0, 2**24, generator=stream)
    assert ours.tolist() == (twister.random_raw(2000) % 2**24).tolist()


def test_every_word_of_a_stream_depends_on_its_place() -> None:
    one, other = (generator(0, "noise", step).get_state().view(torch.int64)[3:627] for step in (0, 1))
    assert int((one == other).sum()) == 0
    assert generator(0, "noise", 0).initial_seed() != generator(0, "noise", 1).initial_seed()


def test_restarting_a_generator_forgets_what_it_gave() -> None:
    used = torch.Generator().manual_seed(1)
    torch.randn(7, generator=used)  # an odd number of normals leaves one over for the next call
    torch.randn(1, generator=used)
    fresh = torch.randn(20, generator=generator(0, "layers", 4))
    assert torch.equal(torch.randn(20, generator=restart(used, 0, "layers", 4)), fresh)
    with torch.random.fork_rng(devices=[]):
        restart(torch.default_generator, 0, "layers", 4)
        assert torch.equal(torch.randn(20), fresh)


def test_the_choices_of_a_protocol_are_what_they_were() -> None:
    """Values of years ago are compared with those of today: which held-out images are judged must not change."""
    assert torch.randperm(10_000, generator=protocol_generator("floor"))[:4].tolist() == [5424, 3114, 1026, 5901]
    assert torch.rand(1, generator=protocol_generator("held out", 250), dtype=torch.float64).item() == 0.6625305402869702


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
