"""What a step learns from: the same images, in memory or streamed, whole or resumed, in one process or two."""

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, Lab
from support.forks import Forks
from torchvision.io import write_png

from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.seeding import shuffled
from ddpm_lab.training.batches import Batches
from registry.datasets import DATASETS, ImageSet

SHORT = ["train.images=160", "train.batch=16", "train.samples_every=null", "evaluate.every=null", "evaluate.features=[]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 pictures of noise in two classes."""
    root, rng = tmp_path_factory.mktemp("pictures"), torch.Generator().manual_seed(0)
    for number in range(60):
        (place := root / "ab"[number % 2]).mkdir(exist_ok=True)
        write_png(torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8, generator=rng), str(place / f"{number:02d}.png"))
    return root


def _data(folder: Path, stream: bool) -> ImageSet:
    options = {"folder": str(folder), "size": 16, "mode": "gray", "stream": stream}
    return DATASETS.configure("image_folder", options)()  # type: ignore[no-any-return]


def _batches(folder: Path, stream: bool) -> Batches:
    return Batches(_data(folder, stream).train, True, seed=3, batch=16, device=torch.device("cpu"))


def test_streamed_batches_are_those_of_memory_over_the_end_of_an_epoch_and_from_any_step(folder: Path) -> None:
    memory, streamed = _batches(folder, stream=False), _batches(folder, stream=True)
    for step in (0, 1, 2, 3, 4, 9, 10, 2):  # 54 images are left to learn from: step 3 straddles two epochs
        for ours, theirs in zip(streamed(step), memory(step), strict=True):
            assert torch.equal(ours, theirs), step  # type: ignore[arg-type]


def test_each_process_gets_its_own_share_of_the_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, labels = _batches(folder, stream=False)(5)

    def share(rank: int) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda value: value.chunk(2)[rank]

    parts = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "share_of", share(rank))
        parts.append(_batches(folder, stream=True)(5))
        assert len(parts[-1][0]) == 8
    assert torch.equal(torch.cat([images for images, _ in parts]), whole)
    assert torch.equal(torch.cat([labels for _, labels in parts]), labels)  # type: ignore[misc, arg-type]


def test_every_image_is_seen_once_an_epoch() -> None:
    chosen = torch.cat([next(shuffled(0, 54, step * 9, 9)) for step in range(12)])
    assert sorted(chosen[:54].tolist()) == sorted(chosen[54:].tolist()) == list(range(54))


def test_memory_does_not_grow_with_the_set(folder: Path) -> None:
    many: Any = _data(folder, stream=True).train
    many.count = 100_000
    many.pictures.indices = [index % 54 for index in range(100_000)]
    feed = Batches(many, False, seed=0, batch=16, device=torch.device("cpu"))
    feed(0)
    tracemalloc.start()
    for step in range(1, 6):
        feed(step)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def _run(lab: Lab, folder: Path, results: Path, stream: str, *words: str) -> bytes:
    dataset = f"dataset={{name: image_folder, folder: {folder}, size: 16, mode: gray, stream: {stream}}}"
    done = lab("run", "smoke", dataset, *SHORT, *words, "--results", results)
    assert done.returncode == 0, done.stderr
    return (results / "latest/raw.safetensors").read_bytes()


def test_a_run_learns_the_same_from_memory_and_from_the_stream(folder: Path, lab: Lab, tmp_path: Path) -> None:
    words = ["classes=true", "train.flip=true"]
    assert _run(lab, folder, tmp_path / "a", "false", *words) == _run(lab, folder, tmp_path / "b", "true", *words)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_stops_a_streamed_run_as_it_stops_another(
    number: int, folder: Path, forks: Forks, tmp_path: Path
) -> None:
    dataset = f"dataset={{name: image_folder, folder: {folder}, size: 16, mode: gray, stream: true}}"
    words = ["run", "smoke", dataset, *SHORT[1:], "train.images=64000", "--results", tmp_path]
    run = forks.start(*words, start_new_session=True)
    metrics = tmp_path / "latest/metrics.jsonl"
    deadline = time.monotonic() + 200
    while not (metrics.exists() and "loss" in metrics.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(run.pid, number)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 128 + number, said
    assert "everything is saved" in said
    with pytest.raises(ProcessLookupError):  # nobody is left behind
        os.killpg(run.pid, 0)


@pytest.mark.slow
def test_two_processes_learn_from_a_streamed_folder_what_one_learns(folder: Path, lab: Lab, tmp_path: Path) -> None:
    _run(lab, folder, tmp_path / "one", "true")
    dataset = f"dataset={{name: image_folder, folder: {folder}, size: 16, mode: gray, stream: true}}"
    two = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "ddpm_lab",
        "run",
        "smoke",
    ]
    subprocess.run(
        [*two, dataset, *SHORT, "--results", str(tmp_path / "two")], cwd=ROOT, check=True, capture_output=True, timeout=300
    )
    losses = []
    for name in ("one", "two"):
        rows = (tmp_path / name / "latest/metrics.jsonl").read_text().splitlines()
        losses.append([row["loss"] for row in map(json.loads, rows) if "loss" in row])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
