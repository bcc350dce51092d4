"""A run that is killed, or whose disk gives way, goes on where it was and ends as if nothing had happened."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, Lab

from ddpm_lab.run_folder import RunFolder

# A checkpoint after every other step: much of the time something is being written.
BUSY = ["train.images=3200", "train.checkpoint_every=64", "train.samples_every=640", "evaluate.every=640", "evaluate.n=16",
        "evaluate.n_during=8", "classes=true", "train.snapshots_every=640",
        "train.ema=[{half_life: 640}, {name: power, std: 0.1}]"]  # fmt: skip
TIMINGS = {
    "images_per_second",
    "train_seconds",
    "training_seconds",
    "sampling_seconds",
    "evaluation_seconds",
    "run",
    "peak_gigabytes",
}


def _start(results: Path, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "ddpm_lab", "run", "smoke", *BUSY, "--results", str(results), *words]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def _checkpoints(results: Path) -> set[str]:
    return {file.name for file in results.glob("smoke/*/checkpoints/*.sha256")}


def _wait_for_another_checkpoint(process: "subprocess.Popen[str]", results: Path) -> bool:
    """Whether one came before the process ended."""
    known = _checkpoints(results)
    while process.poll() is None:
        if _checkpoints(results) - known:
            return True
        time.sleep(0.005)
    return False


def _without_timings(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _without_timings(value) for key, value in values.items() if key not in TIMINGS}
    return [_without_timings(value) for value in values] if isinstance(values, list) else values


def _leavings(results: Path) -> dict[str, object]:
    """All that a run comes to, timings aside."""
    run = (results / "latest").resolve()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "rows": _without_timings(rows),
        "result": _without_timings(json.loads((run / "result.json").read_text())),
        **{str(file.relative_to(run)): file.read_bytes() for file in run.rglob("*.safetensors")},
        **{str(file.relative_to(run)): file.read_bytes() for file in run.rglob("*.png")},
        "names": sorted(str(file.relative_to(run)) for file in run.rglob("*")),
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    results = tmp_path_factory.mktemp("undisturbed")
    process = _start(results)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return _leavings(results)


@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_ends_in_the_same_bits(
    kills: int, undisturbed: dict[str, object], tmp_path: Path
) -> None:
    moments = random.Random(kills)
    done = 0
    while True:
        process = _start(tmp_path, "--resume")
        if done < kills and _wait_for_another_checkpoint(process, tmp_path):
            time.sleep(moments.uniform(0, 4.0 / kills))
            process.send_signal(signal.SIGKILL)
            done += 1
        _, said = process.communicate(timeout=300)
        if process.returncode != -signal.SIGKILL:
            break
    assert process.returncode == 0, said
    assert done >= 3, "the run was over before it could be killed"
    assert len(list((tmp_path / "smoke").iterdir())) == 1
    ended = _leavings(tmp_path)
    assert ended.keys() == undisturbed.keys()
    for name, content in undisturbed.items():
        assert ended[name] == content, name


def test_a_run_killed_before_its_first_checkpoint_begins_again_in_its_folder(lab: Lab, tmp_path: Path) -> None:
    process = _start(tmp_path)
    while not list(tmp_path.glob("smoke/*/resolved.yaml")):
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.communicate()
    again = lab("run", "smoke", *BUSY, "train.images=64", "--results", tmp_path, "--resume")
    assert "was begun with another train.images" in again.stderr
    again = lab("run", "smoke", *BUSY, "--results", tmp_path, "--resume")
    assert again.returncode == 0, again.stderr
    assert "resuming" in again.stderr
    assert len(list((tmp_path / "smoke").iterdir())) == 1


def test_a_run_that_is_running_is_not_resumed_by_another(lab: Lab, tmp_path: Path) -> None:
    process = _start(tmp_path, "train.images=320000")
    try:
        assert _wait_for_another_checkpoint(process, tmp_path)
        other = lab("run", "smoke", *BUSY, "train.images=64", "--results", tmp_path, "--resume")
        assert other.returncode == 0, other.stderr
        assert "is running in another process; not resumed" in other.stderr
        assert len(list((tmp_path / "smoke").iterdir())) == 2
    finally:
        process.kill()
        process.communicate()


BROKEN = """
from registry.losses import LOSSES

@LOSSES.register("broken")
def broken(prediction, target):
    "A loss that is infinite at its fourth batch."
    broken.calls = getattr(broken, "calls", 0) + (len(prediction) == 32)
    return (prediction - target) ** 2 * (float("inf") if broken.calls == 4 else 1)
"""


def test_a_loss_that_is_no_number_leaves_a_checkpoint_and_the_batch(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    words = [f"plugins=[{tmp_path / 'broken.py'}]", "loss=broken", "train.images=320"]
    done = lab("run", "smoke", *words, "--results", tmp_path / "results")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "not finite at step 3 (after 96 images), levels" in line
    assert "the last good checkpoint is of 96 images" in line
    kept = tmp_path / "results/latest/nonfinite.pt"
    assert torch.load(kept, weights_only=True)["x0"].shape == (32, 1, 16, 16)
    assert line.endswith(str(kept.resolve()))


def test_runs_that_start_in_the_same_second_have_folders_of_their_own(tmp_path: Path) -> None:
    assert len({RunFolder.create(tmp_path, "smoke").path for _ in range(20)}) == 20


def _fill(file: Path) -> None:
    with open(file, "wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("full", "No space left on device"),
        pytest.param("read-only", "Read-only file system", marks=pytest.mark.slow),
        ("vanished", "No such file or directory"),
    ],
)
def test_a_disk_that_gives_way_costs_one_line_and_no_checkpoint(trouble: str, words: str, small_disk: Path, lab: Lab) -> None:
    process = _start(small_disk, "train.images=320000")
    assert _wait_for_another_checkpoint(process, small_disk)
    if trouble == "full":
        with pytest.raises(OSError, match="No space"):
            _fill(small_disk / "filler")
    elif trouble == "read-only":
        while subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], capture_output=True).returncode:
            assert process.poll() is None  # busy as long as a file is being written
    else:
        shutil.rmtree(small_disk / "smoke", ignore_errors=True)
        shutil.rmtree(small_disk / "smoke", ignore_errors=True)  # it may have written in between
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    errors = [line for line in said.splitlines() if "error" in line]
    assert len(errors) == 1
    assert words in errors[0]
    assert "Traceback" not in said
    if trouble == "full":
        assert "the last good checkpoint is of" in errors[0]
        (small_disk / "filler").unlink()
        run = next((small_disk / "smoke").iterdir())
        assert lab("sample", run, "-n", "4").returncode == 0
        newest = max(run.glob("checkpoints/*.sha256"))
        assert subprocess.run(["sha256sum", "-c", newest.name], cwd=newest.parent, capture_output=True).returncode == 0
