"""Feature extractors: what their records say, and torch-fidelity's own network."""

import hashlib
import json
import pickle
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from safetensors import safe_open

from ddpm_lab.evaluation.evaluator import Evaluator
from registry.choice import Choice
from registry.datasets import DATASETS
from registry.errors import BadInput
from registry.features import FEATURES, MadeFor, made_for

IMAGES = torch.randint(0, 256, (4, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


SHIPPED = ("fashion_cnn", "fashion_vicreg", "mnist_vicreg")
FOLDER = Path(FEATURES.part("fashion_cnn").make.__module__.replace(".", "/")).parent


def _record(name: str) -> dict[str, Any]:
    return json.loads((ROOT / FOLDER / f"{name}.json").read_text())  # type: ignore[no-any-return]


def _accuracy(name: str, data: str) -> float:
    """Share of the test images whose class the logits name."""
    extractor, test = FEATURES.configure(name, {})(), DATASETS.configure(data, {})().test
    guesses = torch.cat([extractor(images)[1].argmax(1) for images in test.images.split(50)])
    return float((guesses == test.labels).float().mean())


def test_fashion_cnn_is_as_accurate_as_its_record_says() -> None:
    assert _accuracy("fashion_cnn", "fashion_mnist") == pytest.approx(_record("fashion_cnn")["held_out_accuracy"], abs=5e-4)
    assert _record("fashion_cnn")["held_out_accuracy"] >= 0.93


@pytest.mark.slow
def test_the_probe_of_fashion_vicreg_is_as_accurate_as_its_record_says() -> None:
    record = _record("fashion_vicreg")
    assert _accuracy("fashion_vicreg", "fashion_mnist") == pytest.approx(record["linear_probe_accuracy"], abs=5e-4)
    assert record["linear_probe_accuracy"] >= 0.84


@pytest.mark.hub
def test_the_probe_of_mnist_vicreg_is_as_accurate_as_its_record_says() -> None:
    record = _record("mnist_vicreg")
    assert _accuracy("mnist_vicreg", "mnist") == pytest.approx(record["linear_probe_accuracy"], abs=5e-4)
    assert record["linear_probe_accuracy"] >= 0.97


@pytest.mark.parametrize("name", SHIPPED)
def test_weights_that_ship_are_those_of_their_record(name: str) -> None:
    weights = ROOT / FOLDER / f"{name}.safetensors"
    assert weights.stat().st_size < 2_000_000
    record, extractor = _record(name), FEATURES.configure(name, {})()
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == extractor.hash == record["sha256"]
    with safe_open(weights, "pt") as stored:  # what batch normalisation remembers is no parameter
        sizes = {key: stored.get_tensor(key).numel() for key in stored.keys()}  # noqa: SIM118
    assert sum(size for key, size in sizes.items() if "running" not in key and "tracked" not in key) == record["parameters"]


@pytest.mark.parametrize("name", ["fashion_vicreg", "mnist_vicreg"])
def test_features_are_those_of_the_network_that_was_trained(name: str) -> None:
    """The record has them from the network as trained: before its normalisation went into the convolutions."""
    record = _record(name)
    noise = torch.randint(0, 256, (3, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    features = FEATURES.configure(name, {})()(noise)[0]
    torch.testing.assert_close(features[:, :8], torch.tensor(record["features_of_noise"]), rtol=1e-3, atol=1e-4)
    assert made_for(FEATURES.part(name).make) == MadeFor((28, 28), 1, record["data"])


@pytest.mark.parametrize("name", SHIPPED)
def test_gray_and_its_repetition_are_seen_alike_and_each_image_alone(name: str) -> None:
    extractor = FEATURES.configure(name, {})()
    features, logits = extractor(IMAGES)
    assert features.shape == (4, extractor.dimension) == (4, 128)
    assert logits.shape == (4, extractor.classes) == (4, len(extractor.class_names)) == (4, 10)
    torch.testing.assert_close(extractor(IMAGES.expand(-1, 3, -1, -1))[0], features, rtol=1e-4, atol=1e-5)
    # Batch normalisation in training mode would mix the images.
    torch.testing.assert_close(extractor(IMAGES[1:2])[0], features[1:2], rtol=1e-4, atol=1e-5)
    assert extractor(IMAGES[:, :, :16, :16])[0].shape == (4, 128)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fashion_cnn", "fashion_vicreg"])
def test_the_floor_is_the_one_in_the_report(name: str) -> None:
    report = json.loads((ROOT / "benchmarks/reports/extractors/report.json").read_text())
    data = DATASETS.configure("fashion_mnist", {})()
    found, n = Evaluator(Choice(name, {}), data, torch.device("cpu"), frozenset({"FID"})).floor(report["n"])
    assert n == report["n"] == 2000
    assert found["FID"].value == pytest.approx(report["floors"]["fashion_mnist"][name], rel=1e-3)


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real network with random weights, in a file such as torch-fidelity reads."""
    import torch_fidelity.feature_extractor_inceptionv3 as fidelity

    file = tmp_path_factory.mktemp("inception") / "weights.pth"
    with pytest.MonkeyPatch.context() as patch:
        torch.manual_seed(0)
        patch.setattr(fidelity, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = fidelity.FeatureExtractorInceptionV3("x", ["2048"])
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    torch.save(network.state_dict(), file)
    return file


def test_inception_is_torch_fidelitys(inception_weights: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    theirs = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(inception_weights))
    ours = FEATURES.configure("inception_v3", {"weights": str(inception_weights)})()
    features, logits = ours(IMAGES)
    assert features.shape == (4, ours.dimension) == (4, 2048)
    assert logits is not None
    assert float(features.std()) > 0
    torch.testing.assert_close(features, theirs(IMAGES.repeat(1, 3, 1, 1))[0], rtol=1e-4, atol=1e-5)


def test_inception_refuses_a_pickle_without_running_it(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "trap.pth").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(BadInput, match="does not hold plain tensors"):
        FEATURES.configure("inception_v3", {"weights": str(tmp_path / "trap.pth")})()
    torch.save({"w": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(BadInput, match="does not hold plain tensors"):
        FEATURES.configure("inception_v3", {"weights": str(tmp_path / "trap.pth")})()
    assert not (tmp_path / "sprung").exists()


def test_inception_weights_that_are_missing_or_of_another_network_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no file '.*gone\.pth'"):
        FEATURES.configure("inception_v3", {"weights": str(tmp_path / "gone.pth")})()
    torch.save({"w": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(BadInput, match=r"other\.pth' does not hold them"):
        FEATURES.configure("inception_v3", {"weights": str(tmp_path / "other.pth")})()


def test_inception_that_cannot_be_fetched_says_how_to_supply_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch_fidelity.feature_extractor_inceptionv3 as fidelity

    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(fidelity, "load_state_dict_from_url", unreachable)
    with pytest.raises(BadInput, match=r"cannot be fetched .*no route.*weights: PATH"):
        FEATURES.configure("inception_v3", {})()
