"""A run that is killed, or whose disk gives way, goes on where it was and ends as if nothing had happened."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from conftest import ROOT, Quick
from support.forks import Forks, Process

from ddpm_lab.config.load import Recipe, load_recipe
from ddpm_lab.diffusion.model import DataShape
from ddpm_lab.runner.resume import Place
from ddpm_lab.runtime.environment import Environment
from ddpm_lab.storage.results_folder import clear_abandoned, create_run
from ddpm_lab.storage.run_folder import RunFolder

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


def _start(forks: Forks, results: Path, *words: str) -> Process:
    return forks.start("run", "smoke", *BUSY, "--results", results, *words)


def _checkpoints(results: Path) -> set[str]:
    return {file.name for file in results.glob("smoke/*/checkpoints/*.sha256")}


def _wait_for_another_checkpoint(process: Process, results: Path) -> bool:
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
def undisturbed(quick: Quick, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    results = tmp_path_factory.mktemp("undisturbed")
    done = quick("run", "smoke", *BUSY, "--results", results)
    assert done.returncode == 0, done.stderr
    return _leavings(results)


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_ends_in_the_same_bits(
    kills: int, undisturbed: dict[str, object], forks: Forks, tmp_path: Path
) -> None:
    moments = random.Random(kills)
    done = 0
    while True:
        process = _start(forks, tmp_path, "--resume")
        if done < kills and _wait_for_another_checkpoint(process, tmp_path):
            time.sleep(moments.uniform(0, min(1.0, 4.0 / kills)))  # of the five seconds or so that it takes
            process.send_signal(signal.SIGKILL)
            done += 1
        _, said = process.communicate(timeout=300)
        if process.returncode != -signal.SIGKILL:
            break
    assert process.returncode == 0, said
    assert done >= min(kills, 3), "the run was over before it could be killed"
    assert len(list((tmp_path / "smoke").iterdir())) == 1
    ended = _leavings(tmp_path)
    assert ended.keys() == undisturbed.keys()
    for name, content in undisturbed.items():
        assert ended[name] == content, name


def test_a_run_killed_before_its_first_checkpoint_begins_again_in_its_folder(
    forks: Forks, quick: Quick, tmp_path: Path
) -> None:
    process = _start(forks, tmp_path, "train.images=640")
    while not list(tmp_path.glob("smoke/*/resolved.yaml")):
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.communicate()
    again = quick("run", "smoke", *BUSY, "train.images=64", "--results", tmp_path, "--resume")
    assert "cannot be resumed: train.images changed from" in again.stderr
    again = quick("run", "smoke", *BUSY, "train.images=640", "--results", tmp_path, "--resume")
    assert again.returncode == 0, again.stderr
    assert "resuming" in again.stderr
    assert len(list((tmp_path / "smoke").iterdir())) == 1


OPENING = {"resume.py", "results_folder.py", "run_folder.py", "locks.py", "files.py"}  # the modules at work in it


def _begin(recipe: Recipe, results: Path) -> RunFolder:
    """Find or make a run's folder, as a run does it, without what takes long."""
    place = Place(recipe, results, resume=True, run_id=None)
    place.find()
    folder, _ = place.open(DataShape("shapes", (1, 16, 16), None, 0.5, ""), Environment(), None)
    return folder


def _killed_at(line: int, recipe: Recipe, results: Path) -> bool:
    """Begin a run in another process, which is killed at that line of the code; whether it lived to be."""
    if child := os.fork():
        return os.waitpid(child, 0)[1] == signal.SIGKILL
    try:
        seen = 0

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal seen
            if Path(frame.f_code.co_filename).name not in OPENING:
                return None
            seen += event == "line"
            if seen == line:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        _begin(recipe, results)
    finally:
        os._exit(0)


def _begins_again(recipe: Recipe, results: Path) -> RunFolder:
    """The next start: it works, and of what was there before nothing is left but a run that it goes on with."""
    (folder := _begin(recipe, results)).release()
    assert {file.name for file in results.iterdir()} == {"smoke", "latest"}
    assert [file.name for file in (results / "smoke").iterdir()] == [folder.id]
    assert (results / "latest").resolve() == folder.path.resolve()
    names = {str(file.relative_to(folder.path)) for file in folder.path.rglob("*")}
    assert names >= {".lock", "data.json", "environment.json", "resolved.yaml", "samples"}
    assert not [name for name in names if ".partial" in name]
    assert load_recipe(str(folder.path)).experiment.backbone == recipe.experiment.backbone
    return folder


@pytest.mark.parametrize("step", [13, pytest.param(1, marks=pytest.mark.slow)])
def test_wherever_a_beginning_is_killed_the_next_start_works_and_leaves_no_rubbish(step: int, tmp_path: Path) -> None:
    (plugin := tmp_path / "plugin.py").write_text("# a plugin\n")
    recipe = load_recipe("smoke", [f"plugins=[{plugin}]"])
    line = 1
    while _killed_at(line, recipe, tmp_path / str(line)):
        folder = _begins_again(recipe, tmp_path / str(line))
        assert {file.name for file in folder.plugins.glob("0/*")} == {"plugin.py", "plugin.py.sha256"}, line
        line += step
    assert line > 40, "hardly anything was killed"


def test_what_a_killed_start_left_is_cleared_and_what_is_held_or_has_more_in_it_is_not(tmp_path: Path) -> None:
    place = tmp_path / "smoke"
    for name in ("20250101-000000-dead", "20250101-000000-kept", "20250101-000000-held", "notes"):
        (place / name / "samples").mkdir(parents=True)
        (place / name / ".partial-77-resolved.yaml").write_text("seed: 0")
    (place / "20250101-000000-kept/ema.safetensors").write_text("somebody's")
    held = RunFolder(place / "20250101-000000-held")
    assert held.hold()
    (tmp_path / "elsewhere").mkdir()
    (place / "20250101-000000-link").symlink_to(tmp_path / "elsewhere")
    clear_abandoned(tmp_path, "smoke")
    left = {path.name.split("-")[-1] for path in place.iterdir()}
    assert left == {"kept", "held", "notes", "link"}
    held.release()
    clear_abandoned(tmp_path, "smoke")
    assert not held.path.exists()
    assert (tmp_path / "elsewhere").is_dir()


@pytest.mark.slow
def test_twenty_kills_in_the_first_seconds_of_a_run(undisturbed: dict[str, object], quick: Quick, tmp_path: Path) -> None:
    """While it imports, reads its data, makes its folder and takes its first steps; each time a start that is the first."""
    moments, recipe = random.Random(20), load_recipe("smoke", BUSY)
    for kill in range(20):
        command = [sys.executable, "-m", "ddpm_lab", "run", "smoke", *BUSY, "--results", str(results := tmp_path / str(kill))]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)  # which imports everything itself
        if kill % 2:  # of these seconds the folder takes a few milliseconds, so every other one is killed in them
            while not list(results.glob("smoke/*")) and process.poll() is None:
                time.sleep(0.0005)
            time.sleep(moments.uniform(0, 0.02))
        else:
            time.sleep(moments.uniform(0, 8))
        process.kill()
        _, said = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, said
        _begins_again(recipe, results)
    done = quick("run", "smoke", *BUSY, "--results", results, "--resume")
    assert done.returncode == 0, done.stderr
    ended = _leavings(results)
    assert ended.keys() == undisturbed.keys()
    for name, content in undisturbed.items():
        assert ended[name] == content, name


def test_a_run_that_is_running_is_not_resumed_by_another(forks: Forks, quick: Quick, tmp_path: Path) -> None:
    process = _start(forks, tmp_path, "train.images=320000")
    try:
        assert _wait_for_another_checkpoint(process, tmp_path)
        other = quick("run", "smoke", *BUSY, "train.images=64", "--results", tmp_path, "--resume")
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


def test_a_loss_that_is_no_number_leaves_a_checkpoint_and_the_batch(quick: Quick, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    words = [f"plugins=[{tmp_path / 'broken.py'}]", "loss=broken", "train.images=320"]
    done = quick("run", "smoke", *words, "--results", tmp_path / "results")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "not finite at step 3 (after 96 images), levels" in line
    assert "the last good checkpoint is of 96 images" in line
    kept = tmp_path / "results/latest/nonfinite.pt"
    assert torch.load(kept, weights_only=True)["x0"].shape == (32, 1, 16, 16)
    assert line.endswith(str(kept.resolve()))


def test_runs_that_start_in_the_same_second_have_folders_of_their_own(tmp_path: Path) -> None:
    assert len({create_run(tmp_path, "smoke").path for _ in range(20)}) == 20


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
def test_a_disk_that_gives_way_costs_one_line_and_no_checkpoint(
    trouble: str, words: str, small_disk: Path, forks: Forks, quick: Quick
) -> None:
    process = _start(forks, small_disk, "train.images=320000")
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
        assert quick("sample", run, "-n", "4").returncode == 0
        newest = max(run.glob("checkpoints/*.sha256"))
        assert subprocess.run(["sha256sum", "-c", newest.name], cwd=newest.parent, capture_output=True).returncode == 0
