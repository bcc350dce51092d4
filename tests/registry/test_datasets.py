"""Data sets: the same bytes from every source, and damage found and named."""

import gzip
import socket
import struct
import sys
import time
import tracemalloc
import types
from pathlib import Path

import pytest
import torch
from torchvision.io import write_png

import registry.datasets.fashion_mnist as source
from registry.datasets import DATASETS, ImageSet, sources
from registry.datasets.idx import read_idx
from registry.errors import BadInput


def _idx(*shape: int, values: int | None = None) -> bytes:
    count = int(torch.tensor(shape).prod()) if values is None else values
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(i % 256 for i in range(count))


@pytest.mark.parametrize("name", ["x-idx3-ubyte", "x-idx3-ubyte.gz"])
def test_idx_files_are_read_plain_and_gzipped(tmp_path: Path, name: str) -> None:
    data = _idx(2, 3, 4)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert torch.equal(read_idx(tmp_path / name), torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not an IDX file"),
        (b"PK\3\4rest", "not an IDX file"),
        (_idx(2, 3)[:6], "truncated inside its header"),
        (_idx(2, 3, values=5), "promises 6 values, it holds 5"),
        (_idx(2, 3, values=7), "holds more"),
        (_idx(2**20, 2**20, values=3), "promises 1099511627776 values"),
    ],
)
def test_damaged_idx_files_are_named_without_reading_what_they_promise(tmp_path: Path, data: bytes, words: str) -> None:
    (file := tmp_path / "x-idx").write_bytes(data)
    tracemalloc.start()
    with pytest.raises(BadInput, match=words) as caught:
        read_idx(file)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert str(file) in str(caught.value)


def test_a_truncated_gzip_is_named(tmp_path: Path) -> None:
    (file := tmp_path / "x.gz").write_bytes(gzip.compress(_idx(50, 50))[:-20])
    with pytest.raises(BadInput, match="cannot be read"):
        read_idx(file)


@pytest.fixture(scope="module")
def fashion() -> ImageSet:
    """The real data, from wherever this machine has it."""
    return DATASETS.configure("fashion_mnist", {})()  # type: ignore[no-any-return]


def test_fashion_mnist_is_what_its_paper_says(fashion: ImageSet) -> None:
    assert fashion.train.images.shape == (60_000, 1, 28, 28)
    assert fashion.test.images.shape == (10_000, 1, 28, 28)
    assert fashion.train.labels.bincount().tolist() == [6000] * 10  # type: ignore[union-attr]
    assert fashion.test.labels.bincount().tolist() == [1000] * 10  # type: ignore[union-attr]
    assert fashion.std == pytest.approx(2 * 0.3530, abs=1e-3)  # the usual normalisation constant, for [0, 1]
    assert fashion.class_names is not None
    assert fashion.class_names[9] == "Ankle boot"


@pytest.fixture
def arrays(fashion: ImageSet) -> dict[str, torch.Tensor]:
    """The four arrays, to damage."""
    parts = {"train": fashion.train, "t10k": fashion.test}
    return {
        name: (parts[name.split("-")[0]].images[:, 0] if "images" in name else parts[name.split("-")[0]].labels.byte()).clone()  # type: ignore[union-attr]
        for name in source.ARRAYS
    }


def test_one_changed_pixel_is_found(arrays: dict[str, torch.Tensor]) -> None:
    arrays["t10k-images-idx3-ubyte"][5, 5, 5] ^= 1
    with pytest.raises(BadInput, match="here: t10k-images-idx3-ubyte is not Fashion-MNIST's"):
        source._verified(arrays, "here")


def test_swapped_files_are_called_swapped(arrays: dict[str, torch.Tensor]) -> None:
    a, b = "train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"
    arrays[a], arrays[b] = arrays[b], arrays[a]
    with pytest.raises(BadInput, match=f"{a} holds the values of {b}; the files are swapped"):
        source._verified(arrays, "here")


def test_a_folder_that_lacks_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no train-images-idx3-ubyte"):
        DATASETS.configure("fashion_mnist", {"folder": str(tmp_path)})()
    with pytest.raises(BadInput, match="no such folder"):
        DATASETS.configure("fashion_mnist", {"folder": str(tmp_path / "gone")})()


def test_a_folder_of_the_users_serves(tmp_path: Path, arrays: dict[str, torch.Tensor], fashion: ImageSet) -> None:
    for name, array in arrays.items():
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (tmp_path / name).write_bytes(header + array.numpy().tobytes())
    mine: ImageSet = DATASETS.configure("fashion_mnist", {"folder": str(tmp_path)})()
    assert mine.train.hash == fashion.train.hash


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with no cache, no hub and no package."""
    monkeypatch.setenv("DDPM_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(source, "DEBIAN_FOLDER", Path("nowhere/at/all"))

    def no_package() -> dict[str, torch.Tensor]:
        raise ConnectionError("the mirror is down")

    monkeypatch.setattr(source, "_from_debian", no_package)
    return tmp_path


def test_when_all_sources_fail_each_is_named_with_the_remedy(bare: Path) -> None:
    with pytest.raises(BadInput) as caught:
        source.fashion_mnist()
    for words in ("HF_HUB_OFFLINE is set", "the mirror is down", "apt-get install dataset-fashion-mnist", "folder: PATH"):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_hub_serves_and_the_cache_serves_after_it(
    bare: Path, monkeypatch: pytest.MonkeyPatch, arrays: dict[str, torch.Tensor], fashion: ImageSet
) -> None:
    class Rows(dict):  # type: ignore[type-arg]
        def with_format(self, _: str) -> "Rows":
            return self

    def load_dataset(name: str, split: str) -> Rows:
        assert name == "zalando-datasets/fashion_mnist"
        part = "train" if split == "train" else "t10k"
        return Rows(image=list(arrays[f"{part}-images-idx3-ubyte"]), label=arrays[f"{part}-labels-idx1-ubyte"].long())

    monkeypatch.setattr(sources, "require_hub", lambda name: None)
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))  # type: ignore[arg-type]
    first = source.fashion_mnist()
    assert first.source == "hub zalando-datasets/fashion_mnist"
    assert source.fashion_mnist().source.startswith("cache")
    assert first.train.hash == fashion.train.hash
    # A damaged cache is found out, passed over, and mended.
    (bare / "cache/fashion_mnist.safetensors").write_bytes(b"damaged")
    assert source.fashion_mnist().source.startswith("hub")
    assert source.fashion_mnist().source.startswith("cache")


def test_a_hub_that_does_not_answer_costs_its_patience_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # takes the connection, and never says a word
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(sources, "HUB_PATIENCE", 0.5)
        start = time.monotonic()
        with pytest.raises(ConnectionError, match="cannot be reached"):
            sources.require_hub("any/thing")
        assert time.monotonic() - start < 5


@pytest.mark.hub
def test_the_real_hub_serves_the_same_bytes() -> None:
    source._verified(source._from_hub(), "hub")


def test_shapes_are_drawn_alike_each_time_and_differ_by_class() -> None:
    first, again = (DATASETS.configure("shapes", {"count": 90, "channels": 3, "size": 20})() for _ in range(2))
    assert first.train.hash == again.train.hash
    assert first.train.images.shape == (90, 3, 20, 20)
    assert first.classes == 3
    assert DATASETS.configure("shapes", {"seed": 1})().train.hash != DATASETS.configure("shapes", {})().train.hash
    area = [(first.train.images[first.train.labels == k] > 0).float().mean() for k in range(3)]
    assert area[1] > area[0] > area[2]  # square, disc, cross


def _picture(file: Path, value: int, height: int = 20, width: int = 30) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_png(torch.full((3, height, width), value, dtype=torch.uint8), str(file))


def test_a_folder_of_images_with_classes(tmp_path: Path) -> None:
    for index in range(10):
        _picture(tmp_path / "cats" / f"{index}.png", 50)
        _picture(tmp_path / "dogs" / f"{index}.png", 200)
    found: ImageSet = DATASETS.configure("image_folder", {"folder": str(tmp_path), "size": 16, "held_out": 0.2})()
    assert found.image_shape == (3, 16, 16)
    assert (len(found.train), len(found.test)) == (16, 4)
    assert found.class_names == ("cats", "dogs")
    bright = found.train.images.float().mean(dim=(1, 2, 3)) > 100
    assert torch.equal(bright.long(), found.train.labels)


def test_a_flat_folder_has_no_classes_and_gray_has_one_channel(tmp_path: Path) -> None:
    for index in range(4):
        _picture(tmp_path / f"{index}.png", 99)
    found: ImageSet = DATASETS.configure("image_folder", {"folder": str(tmp_path), "mode": "gray", "held_out": 0.5})()
    assert found.classes is None
    assert found.image_shape == (1, 32, 32)


def test_folders_that_cannot_serve_are_named(tmp_path: Path) -> None:
    def load(**options: object) -> None:
        DATASETS.configure("image_folder", {"folder": str(tmp_path), **options})()

    with pytest.raises(BadInput, match="no image file in it"):
        load()
    _picture(tmp_path / "good.png", 3)
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(BadInput, match=r"broken\.png: cannot be read as an image"):
        load()
    (tmp_path / "good.png").unlink()
    _picture(tmp_path / "broken.png", 3)
    with pytest.raises(BadInput, match=r"held_out = 1\.0 of 1 images"):
        load(held_out=1.0)
