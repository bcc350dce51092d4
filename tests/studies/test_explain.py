"""Planted gaps: what makes two values differ is known here, and made without the lab's own code for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Quick
from safetensors.torch import load_file, save_file

from benchmarks.explain.planted import Array, jpeg, nearest, red
from registry.datasets.shapes import shapes

DATA = "{name: shapes, size: 16, count: 256}"  # those of the smoke experiment
MANY, FEW = 400, 120


def _drawn(seed: int, count: int = MANY) -> Array:
    """Images as good as real ones, [N, H, W, 1]: close to the floor, where small things show."""
    images = shapes(count=count, seed=seed).train.images
    return images.permute(0, 2, 3, 1).numpy()


def _other_size(images: Array) -> Array:
    return nearest(images, 28)


# What was done to the images, and the factors that are to be named.
PLANTED: dict[str, tuple[Callable[[Array], Array], set[str]]] = {
    "fewer images": (lambda images: images[:FEW], {"n"}),
    "JPEG": (jpeg, {"quantisation"}),
    "another size": (_other_size, {"resize"}),
    "red for gray": (red, {"colour"}),
    "fewer images, and JPEG": (lambda images: jpeg(images[:FEW]), {"n", "quantisation"}),
    "another size, and red": (lambda images: red(_other_size(images)), {"resize", "colour"}),
    "fewer images of another size, and red": (lambda images: red(_other_size(images[:FEW])), {"n", "resize", "colour"}),
}


def _save(file: Path, images: Array, labels: torch.Tensor | None = None) -> Path:
    np.savez(file, images, *([] if labels is None else [labels.numpy()]))
    return file


def _explained(quick: Quick, *words: str | Path, cwd: Path) -> dict[str, Any]:
    done = quick("explain", *words, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _named(found: dict[str, Any]) -> list[set[str]]:
    return [{one["factor"] for one in tried["change"]} for tried in found["tried"] if tried["named"]]


SLOW = ("another size", "red for gray", "another size, and red", "fewer images of another size, and red")


@pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.slow if case in SLOW else ()) for case in PLANTED])
def test_what_was_done_to_images_is_named(case: str, quick: Quick, tmp_path: Path) -> None:
    change, factors = PLANTED[case]
    x, y = _save(tmp_path / "x.npz", images := _drawn(7)), _save(tmp_path / "y.npz", change(images))
    found = _explained(quick, x, y, "--dataset", DATA, cwd=tmp_path)
    assert _named(found) == [factors], found


def test_the_reference_is_named(quick: Quick, tmp_path: Path) -> None:
    """The other value was measured against the held-out images, given as a data set of its own."""
    data = shapes(count=256)
    for name, half in (("train", data.train), ("test", data.test)):
        _save(tmp_path / f"{name}.npz", half.images.permute(0, 2, 3, 1).numpy(), half.labels)
    for name in ("x.npz", "y.npz"):
        _save(tmp_path / name, _drawn(7))
    swapped = "{name: npz, file: test.npz, test_file: train.npz}"
    assert quick("evaluate", "y.npz", "--dataset", swapped, cwd=tmp_path).returncode == 0
    assert _named(_explained(quick, "x.npz", "y.npz", "--dataset", DATA, cwd=tmp_path)) == [{"reference"}]


def test_nothing_is_named_where_there_is_no_gap(quick: Quick, tmp_path: Path) -> None:
    x, y = _save(tmp_path / "x.npz", _drawn(1)), _save(tmp_path / "y.npz", _drawn(2))
    found = _explained(quick, x, y, "--dataset", DATA, cwd=tmp_path)
    assert found["within_noise"]
    assert not found["tried"]


@pytest.fixture(scope="module")
def run(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose raw weights are worse than its average, as with a high learning rate."""
    folder = tmp_path_factory.mktemp("explain") / "results/smoke/run"
    shutil.copytree(smoke_run, folder)
    rng = torch.Generator().manual_seed(0)
    weights = load_file(folder / "raw.safetensors")
    noisy = {key: one + one.abs().mean() * torch.randn(one.shape, generator=rng) for key, one in weights.items()}
    save_file(noisy, folder / "raw.safetensors")
    return folder


def _evaluation(quick: Quick, run: Path, *words: str) -> Path:
    done = quick("evaluate", run, *words, cwd=run)
    assert done.returncode == 0, done.stderr
    (said,) = (line for line in done.stderr.splitlines() if line.startswith("results: "))
    return Path(said.partition(": ")[2])


@pytest.mark.parametrize(
    ("words", "factors"),
    [(["--weights", "raw"], {"weights"}), (["--weights", "raw", "--steps", "2"], {"weights", "steps"})],
)
def test_how_images_were_sampled_is_named(words: list[str], factors: set[str], quick: Quick, run: Path) -> None:
    found = _explained(quick, run, _evaluation(quick, run, *words), cwd=run)
    assert _named(found) == [factors]


def test_of_a_claimed_value_what_is_said_is_believed_and_the_rest_tried(quick: Quick, run: Path) -> None:
    """Somebody gives the value of the raw weights, and does not say so."""
    (record, *_) = json.loads(_evaluation(quick, run, "--weights", "raw").read_text())
    made = json.loads((run / "result.json").read_text())["metrics"][0]["generation"]
    told = [f"{key}={made[key]}" for key in ("steps", "clip", "seed", "precision")]
    told += ["n=128", "reference=train", "resize=the extractor's", "colour=the extractor's", "features=fashion_cnn"]
    told += [f"{key}={{name: {name}}}" for key, name in (("sampler", "ddim"), ("grid", "uniform"))]
    told += ["guidance={name: classifier_free, scale: 1.0}"]
    found = _explained(quick, run, f"FID={record['value']:.2f}", *told, cwd=run)
    assert {cause["factor"] for one in found["tried"] for cause in one["change"]} == {"quantisation", "weights"}
    assert _named(found) == [{"weights"}]
    (text,) = found["text"]
    before, after = found["changed"]["value"], record["value"]
    assert text == f"raw instead of ema weights: {before:.3f} -> {after:.3f}, explains all of it"
    wrong = _explained(quick, run, f"FID={record['value']:.2f}", *told, "weights=ema", cwd=run)
    assert not _named(wrong), "the weights are said to be the same"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["3.4", "FID=2"], "X and Y are both claimed values"),
        (["x.npz", "KID=0.1"], "KID=0.1: only FID is explained"),
        (["x.npz", "3.4", "wieghts=raw"], "nothing is called wieghts; did you mean 'weights'?"),
        (["x.npz", "3.4", "n=many"], "n=many: expected a whole number from 100 on"),
        (["x.npz", "3.4", "sampler=dddim"], "sampler=dddim: no sampler named 'dddim'; did you mean 'ddim'?"),
        (["x.npz", "x.npz", "n=500"], "'n=500': such words describe a claimed value, and neither X nor Y is one"),
        (["x.npz", "none.npz"], "none.npz: no such file"),
        (["x.npz", "few.npz"], "few.npz: holds 50 images; fewer than 100 have no interval"),
        (["x.npz", "x.npz", "-n", "5000"], "-n: x.npz holds 120 images, fewer than 5000"),
        (["x.npz", "3.4", "-n", "100"], "-n: 3.4 stands for the N that it was measured with"),
        (["x.npz", "nowhere"], "no run at 'nowhere'"),
        (["x.npz", "x.npz", "--minutes", "-1"], "--minutes: '-1' is not a number from 0"),
    ],
)
def test_bad_input_prints_one_line(words: list[str], said: str, quick: Quick, tmp_path: Path) -> None:
    _save(tmp_path / "x.npz", _drawn(7, 120))
    _save(tmp_path / "few.npz", _drawn(7, 50))
    done = quick("explain", *words, "--dataset", DATA, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_time_is_over_and_the_table_says_what_was_left(quick: Quick, tmp_path: Path) -> None:
    x, y = _save(tmp_path / "x.npz", images := _drawn(7, FEW)), _save(tmp_path / "y.npz", _other_size(images))
    done = quick("explain", x, y, "--dataset", DATA, "--minutes", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "x.npz is changed: 6 evaluations of 120 images" in done.stderr
    assert "nothing that could explain the gap can be tried" in done.stdout
    assert done.stdout.count("it would have lasted beyond --minutes") == 5
