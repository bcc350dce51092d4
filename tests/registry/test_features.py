"""Feature extractors: what their records say, and torch-fidelity's own network."""

import json
import pickle
import urllib.error
from pathlib import Path

import pytest
import torch

from registry.datasets import DATASETS
from registry.errors import BadInput
from registry.features import FEATURES
from registry.features.fashion_cnn import WEIGHTS

IMAGES = torch.randint(0, 256, (4, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_fashion_cnn_is_as_accurate_as_its_record_says() -> None:
    record = json.loads(WEIGHTS.with_suffix(".json").read_text())
    extractor = FEATURES.configure("fashion_cnn", {})()
    test = DATASETS.configure("fashion_mnist", {})().test
    guesses = torch.cat([extractor(images)[1].argmax(1) for images in test.images.split(1000)])
    accuracy = float((guesses == test.labels).float().mean())
    assert accuracy == pytest.approx(record["held_out_accuracy"], abs=5e-4)
    assert accuracy >= 0.93
    assert extractor.hash == record["sha256"]
    assert WEIGHTS.stat().st_size < 2_000_000


def test_fashion_cnn_sees_gray_and_its_repetition_alike_and_each_image_alone() -> None:
    extractor = FEATURES.configure("fashion_cnn", {})()
    features, logits = extractor(IMAGES)
    assert features.shape == (4, extractor.dimension) == (4, 128)
    assert logits.shape == (4, 10)
    torch.testing.assert_close(extractor(IMAGES.expand(-1, 3, -1, -1))[0], features, rtol=1e-4, atol=1e-5)
    # Batch normalisation in training mode would mix the images.
    torch.testing.assert_close(extractor(IMAGES[1:2])[0], features[1:2], rtol=1e-4, atol=1e-5)
    assert extractor(IMAGES[:, :, :16, :16])[0].shape == (4, 128)


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
