"""The mistakes that make published values not match, each with the test that would catch it."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import ddpm_lab
from ddpm_lab.diffusion.build import build_data
from ddpm_lab.diffusion.process import to_uint8
from ddpm_lab.evaluation import reference_cache as reference
from ddpm_lab.evaluation.accumulator import numbered
from ddpm_lab.evaluation.evaluate import evaluate_images
from ddpm_lab.evaluation.evaluator import Evaluator, measure
from ddpm_lab.evaluation.pixels import PixelSample, in_pixels
from ddpm_lab.inference.trained_run import Run
from ddpm_lab.reports.result_table import result_lines
from registry.choice import Choice
from registry.datasets import ImageSet, Split
from registry.datasets.fashion_mnist import fashion_mnist
from registry.errors import BadInput
from registry.metrics.fid import frechet
from registry.metrics.interval import BLOCKS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> ImageSet:
    """A part of the real thing: shoes face one way."""
    whole = fashion_mnist()
    assert isinstance(whole.train, Split)
    assert isinstance(whole.test, Split)
    assert whole.train.labels is not None
    assert whole.test.labels is not None
    train = Split(whole.train.images[:3000], whole.train.labels[:3000])
    test = Split(whole.test.images[:1000], whole.test.labels[:1000])
    return ImageSet("fashion_mnist", train, test, whole.class_names, whole.source)


@pytest.fixture(scope="module")
def kept(data: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Evaluator, Path]]:
    """An evaluator, and the file of its reference in a cache of this module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_LAB_CACHE", str(cache := tmp_path_factory.mktemp("cache")))
        made = Evaluator(Choice("fashion_cnn", {}), data, CPU)
        (file,) = cache.glob("reference/*.safetensors")
        yield made, file


@pytest.fixture
def evaluator(kept: tuple[Evaluator, Path]) -> Evaluator:
    return kept[0]


@pytest.fixture
def cached(kept: tuple[Evaluator, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That file in a cache of one test."""
    monkeypatch.setenv("DDPM_LAB_CACHE", str(tmp_path))
    (tmp_path / "reference").mkdir()
    return Path(shutil.copy(kept[1], tmp_path / "reference"))


def _distance(evaluator: Evaluator, images: Tensor) -> float:
    (found,) = measure([evaluator], numbered(images.split(300)), len(images), "", passing=True)
    return frechet(evaluator.reference.moments, found.moments)


def _held_out(data: ImageSet) -> Tensor:
    return data.test.rows(torch.arange(1000))


def test_the_extractor_never_trains(evaluator: Evaluator, data: ImageSet) -> None:
    """In training mode dropout and batch statistics would make the features of an image depend on its neighbours."""
    images = _held_out(data)
    alone = torch.cat([evaluator.features(image[None])[0] for image in images[:20]])
    torch.testing.assert_close(alone, evaluator.features(images)[0][:20], rtol=1e-4, atol=1e-5)
    assert torch.equal(evaluator.features(images)[0], evaluator.features(images)[0])
    assert not any(module.training for module in vars(evaluator.extractor)["network"].modules())


def test_floats_are_not_evaluated(evaluator: Evaluator, data: ImageSet) -> None:
    with pytest.raises(BadInput, match="evaluated as uint8"):
        _distance(evaluator, _held_out(data).float() / 127.5 - 1)


def test_a_flipped_reference_is_another_protocol(evaluator: Evaluator, data: ImageSet) -> None:
    assert isinstance(data.train, Split)
    flipped = ImageSet(data.name, Split(data.train.images.flip(3), data.train.labels), data.test, data.class_names, data.source)
    other = Evaluator(Choice("fashion_cnn", {}), flipped, CPU)
    assert _distance(other, _held_out(data)) > 1.5 * _distance(evaluator, _held_out(data))
    assert other.protocol("FID", 1000).fingerprint != evaluator.protocol("FID", 1000).fingerprint


def test_a_cache_of_another_number_of_images_is_not_believed(evaluator: Evaluator, data: ImageSet, cached: Path) -> None:
    """The file is whole and says all the right words; only its sums are those of fewer images."""
    assert isinstance(data.train, Split)
    assert data.train.labels is not None
    half = ImageSet(data.name, Split(data.train.images[:1500], data.train.labels[:1500]), data.test, data.class_names, "")
    less = Evaluator(Choice("fashion_cnn", {}), half, CPU).reference
    with safe_open(cached, "pt") as stored:
        known = {key: value for key, value in stored.metadata().items() if key != "content"}
    reference.keep(less, known)
    again = Evaluator(Choice("fashion_cnn", {}), data, CPU).reference
    assert int(again.moments.count) == 3000
    assert torch.equal(again.groups.outer, evaluator.reference.groups.outer)


def test_a_bit_that_flipped_in_a_cache_is_noticed(evaluator: Evaluator, data: ImageSet, cached: Path) -> None:
    content = bytearray(cached.read_bytes())
    content[-1000] ^= 0x10
    cached.write_bytes(content)
    assert torch.equal(Evaluator(Choice("fashion_cnn", {}), data, CPU).reference.some, evaluator.reference.some)


def test_grayscale_becomes_rgb_after_quantisation(evaluator: Evaluator, data: ImageSet, tmp_path: Path) -> None:
    """The same gray image as one channel, as three, or out of a PNG, has the same features."""
    from torchvision.io import ImageReadMode, decode_image, write_png

    gray = _held_out(data)[:1]
    torch.testing.assert_close(evaluator.features(gray)[0], evaluator.features(gray.expand(-1, 3, -1, -1))[0])
    write_png(gray[0], str(tmp_path / "one.png"))
    picture = decode_image(str(tmp_path / "one.png"), ImageReadMode.RGB)[None]
    assert picture.shape == (1, 3, 28, 28)
    torch.testing.assert_close(evaluator.features(picture)[0], evaluator.features(gray)[0])


def test_values_beyond_the_range_are_cut_off_and_not_wrapped(evaluator: Evaluator, data: ImageSet) -> None:
    """A network overshoots a little; wrapped, its white would be black."""
    unit = _held_out(data).float() / 127.5 - 1
    assert to_uint8(torch.tensor([-1.2, -1.0, 0.0, 1.0, 1.2])).tolist() == [0, 0, 128, 255, 255]
    over = to_uint8(unit * 1.02)
    wrapped = (unit * 1.02 * 127.5 + 127.5).round().to(torch.int64).remainder(256).to(torch.uint8)
    plain = _distance(evaluator, _held_out(data))
    assert _distance(evaluator, over) < 1.5 * plain
    assert _distance(evaluator, wrapped) > 10 * plain


def test_values_are_rounded_and_not_cut() -> None:
    """Cut down, every image would be half a level darker."""
    levels = torch.arange(256)
    assert torch.equal(to_uint8((levels / 127.5 - 1) + 0.4 / 127.5), levels.to(torch.uint8))
    assert torch.equal(to_uint8((levels / 127.5 - 1) - 0.4 / 127.5), levels.to(torch.uint8))


def test_which_weights_drew_the_images_stands_beside_the_value(evaluator: Evaluator, data: ImageSet) -> None:
    """It is no part of the protocol: raw and EMA weights are what is compared."""
    prints = set()
    for weights in ("ema", "raw"):
        made = {"sampler": "ddim", "steps": 20, "weights": weights}
        for record in evaluate_images([evaluator], numbered(_held_out(data)[:120].split(50)), 120, made):
            assert record.generation["weights"] == weights
            prints.add((record.metric, record.fingerprint))
    assert len(prints) == len({metric for metric, _ in prints})


def test_raw_weights_are_not_taken_for_the_average(smoke_run: Path) -> None:
    """What the run itself reported is what the EMA weights in its folder draw, and not what the raw ones do."""
    run = ddpm_lab.load(smoke_run)
    assert isinstance(run, Run)
    judge = Evaluator(Choice("fashion_cnn", {}), build_data(run.experiment), CPU)
    found = {}
    for weights in ("ema", "raw"):
        sampling = run.experiment.sampling.model_copy(update={"weights": weights})
        network = run.model(sampling).network
        for name, value in load_file(smoke_run / f"{weights}.safetensors").items():
            assert torch.equal(network.state_dict()[name], value)
        found[weights] = _distance(judge, run.sample(128, weights=weights))
    reported = json.loads((smoke_run / "result.json").read_text())["metrics"][0]
    assert reported["generation"]["weights"] == "ema"
    assert reported["value"] == pytest.approx(found["ema"], rel=1e-3)
    assert abs(found["raw"] - reported["value"]) > 5 * abs(found["ema"] - reported["value"])


def test_a_set_against_itself_and_against_noise(data: ImageSet) -> None:
    evaluator = Evaluator(Choice("fashion_cnn", {}), data, CPU, frozenset({"FID", "precision", "recall", "coverage", "IS"}))
    train = data.train.rows(torch.arange(3000))
    noise = torch.randint(0, 256, train.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    (itself,), (far,) = (
        measure([evaluator], numbered(images.split(300)), 3000, "", passing=True, blocks=BLOCKS) for images in (train, noise)
    )
    same, other = evaluator.all_values(itself), evaluator.all_values(far)
    assert same["FID"].value == pytest.approx(0, abs=1e-6)
    assert (same["precision"].value, same["recall"].value, same["coverage"].value) == (1, 1, 1)
    assert other["FID"].value > 100 * evaluator.floor(1000)[0]["FID"].value
    assert other["precision"].value < 0.01
    assert same["IS"].value > 5 > 2 > other["IS"].value


def test_copies_of_training_images_are_noticed_and_new_images_are_not(data: ImageSet) -> None:
    found = []
    for images in (data.train.rows(torch.arange(500)), _held_out(data)):
        sample = PixelSample(len(images))
        sample.add(0, images)
        found += in_pixels(sample, data, CPU, {}, ["memorisation"])
    copied, new = found
    assert copied.value > 0.99
    assert new.value == pytest.approx(0.5, abs=0.04)
    assert copied.detail["median distance"] < 1e-3 < new.detail["median distance"]


def test_images_of_another_size_or_in_colour_are_judged_but_for_their_pixels(evaluator: Evaluator) -> None:
    for channels, side in ((3, 28), (1, 32)):
        images = torch.randint(0, 256, (120, channels, side, side), dtype=torch.uint8)
        found = [record.metric for record in evaluate_images([evaluator], numbered(images.split(50)), 120, {})]
        assert "FID" in found
        assert "memorisation" not in found


def test_one_held_out_image_is_no_floor_and_costs_no_value(data: ImageSet, evaluator: Evaluator) -> None:
    assert isinstance(data.test, Split)
    assert data.test.labels is not None
    alone = ImageSet(data.name, data.train, Split(data.test.images[:1], data.test.labels[:1]), data.class_names, "")
    records = evaluate_images([Evaluator(Choice("fashion_cnn", {}), alone, CPU)], numbered([_held_out(data)[:300]]), 300, {})
    fid = next(record for record in records if record.metric == "FID")
    assert fid.floor is None
    assert fid.value == pytest.approx(_distance(evaluator, _held_out(data)[:300]), rel=1e-6)
    assert list(result_lines([fid]))[1].endswith(fid.around(fid.interval)), "the column of floors is empty"


def test_the_fingerprint_is_of_the_whole_protocol(evaluator: Evaluator) -> None:
    """By its definition in DESIGN: a hash over every field, in a known order."""
    protocol = evaluator.protocol("FID", 1000)
    text = json.dumps(vars(protocol), sort_keys=True).encode()
    assert protocol.fingerprint == hashlib.sha256(text).hexdigest()[:12]
    assert set(vars(protocol)) == {
        "metric", "extractor", "extractor_hash", "resize", "quantisation", "reference", "reference_hash", "n",
    }  # fmt: skip
