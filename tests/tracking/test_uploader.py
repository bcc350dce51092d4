"""What W&B gets, by the real client and a server that keeps all of it: each row once, whatever happens on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import KEY, ROOT, Lab
from PIL import Image
from support.wandb_server import Run, WandbServer

from ddpm_lab.cli.main import main
from ddpm_lab.config.schema import Track
from ddpm_lab.storage.measurement import read_result
from ddpm_lab.storage.metrics_log import Picture, Row
from ddpm_lab.storage.results_folder import create_run
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.tracking import tracker as tracking
from ddpm_lab.tracking import uploader as follower
from ddpm_lab.tracking.tracker import Tracker

FEW = ["train.images=256", "train.samples_every=64", "train.checkpoint_every=64", "evaluate.n=8", "evaluate.n_during=4",
       "evaluate.every=128", "track=wandb"]  # fmt: skip
CONFIG = {"loss": {"name": "l1"}, "dataset": {"name": "image_folder", "folder": "~/pictures"}}


@pytest.fixture
def server(wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> WandbServer:
    """This process is logged in to it."""
    for name, value in wandb_server.env.items():
        monkeypatch.setenv(name, value)
    return wandb_server


@pytest.fixture
def folder(server: WandbServer) -> RunFolder:
    """A run in the user's home that has begun."""
    folder = create_run(Path(server.env["HOME"]) / "results", "little")
    folder.experiment.write_text(json.dumps(CONFIG | {"track": {"tags": ["one", "two"]}}))  # JSON is YAML
    return folder


def _until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.02)


def _train(folder: RunFolder, steps: range) -> None:
    """Rows as a run writes them, a picture every third step."""
    for step in steps:
        images = 100 * step
        if step % 3 == 0:
            file = folder.samples / f"{images:09d}.png"
            Image.new("L", (8, 8), color=step).save(file)
            folder.append_metrics(Row(images, pictures={"samples": Picture(f"samples/{file.name}", f"at {images}")}))
        folder.append_metrics(Row(images, {"loss": 1 / (step + 3)}))


def _end(folder: RunFolder, fid: float, fingerprint: str = "f00d") -> None:
    for kind in ("ema", "raw"):
        folder.weights(kind).write_bytes(f"{kind} {fid}".encode())
    line = {"metric": "FID", "extractor": "fashion_cnn", "value": fid, "fingerprint": fingerprint}
    folder.result.write_text(json.dumps({"images": 1200, "metrics": [line]}))


def _logged(folder: RunFolder) -> list[dict[str, Any]]:
    """The local log, a picture by its caption."""
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [{key: value["caption"] if isinstance(value, dict) else value for key, value in row.items()} for row in rows]


def _arrived(run: Run) -> list[dict[str, Any]]:
    """The same at W&B; its steps are the numbers of the rows, and a picture counts where its file is there."""
    assert [row["_step"] for row in run.history] == list(range(len(run.history)))
    rows = []
    for row in run.history:
        rows.append({key: value for key, value in row.items() if not key.startswith("_")})
        if "samples" in row:
            rows[-1]["samples"] = row["samples"]["caption"]
            assert run.files[row["samples"]["path"]].startswith(b"\x89PNG")
    return rows


def _secrets_in(server: WandbServer, folder: Path) -> Iterator[str]:
    """Where the key or the home can be read, or where Python or the lab is, which usually is in the home."""
    home = server.env["HOME"]
    name = Path(home).name[:8]  # a part that nothing escapes or folds
    words = [word.encode() for word in (KEY, home, name, str(ROOT), sys.prefix)]
    for place, body in [*server.received, *((str(file), file.read_bytes()) for file in folder.rglob("*") if file.is_file())]:
        yield from (f"{word!r} in {place}" for word in words if word in body)


def _peak_megabytes(process: int) -> float:
    """What it has held at most, as the kernel has it."""
    (line,) = (line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def test_everything_arrives_once_and_nothing_secret_and_nothing_is_left_behind(
    server: WandbServer, folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # of the uploader
    _train(folder, range(12))
    _end(folder, 3.5)
    words = {"tags": ["one", "two"], "group": "g", "run_name": "n", "notes": "why", "job_type": "tune", "project": "p"}
    words["notes"] = f"see {Path.home()}/why.txt"
    user = CONFIG | {"dataset": {"name": "image_folder", "folder": f"{Path.home()}/pictures"}, "track": words}
    folder.experiment.write_text(json.dumps(user))
    assert main(["sync", str(folder.path)]) == 0
    run = server.runs[folder.id]
    told = words | {"notes": "see ~/why.txt"}
    assert (run.tags, run.group, run.name, run.notes, run.job_type, run.project) == tuple(told.values())
    assert run.config["loss"] == {"name": "l1"}
    assert run.config["dataset"]["folder"] == "~/pictures"
    assert _arrived(run) == _logged(folder)
    assert run.state == "finished"
    assert run.summary["FID/fashion_cnn"] == 3.5
    assert run.summary["FID/fashion_cnn/fingerprint"] == "f00d"
    metrics = run.raw_config["_wandb"]["value"]["m"]
    assert {"1": "images", "6": [3], "7": []} in metrics  # the abscissa of all the others
    assert any(
        metric.get("2") == "*" and metric["5"] == 1 + metrics.index({"1": "images", "6": [3], "7": []}) for metric in metrics
    )
    (version,) = server.artifacts["little-ema"]
    assert sorted(version.aliases) == ["best", "latest"]
    assert version.files["ema.safetensors"] == b"ema 3.5"
    assert version.metadata["FID/fashion_cnn/fingerprint"] == "f00d"
    assert json.loads(folder.wandb.read_text())["id"] == folder.id

    better = create_run(folder.path.parent.parent, "little")
    shutil.copy(folder.experiment, better.experiment)
    _end(better, 2.5)
    for again in (better, folder):
        assert main(["sync", str(again.path)]) == 0
    assert _arrived(run) == _logged(folder)
    assert [sorted(version.aliases) for version in server.artifacts["little-ema"]] == [[], ["best", "latest"]]
    assert (run.tags, run.name) == (["one", "two"], "n")
    assert not server.unknown
    assert not list(tmp_path.iterdir())
    folder.experiment.unlink()  # the user's own file, with a path that the user wrote
    assert not list(_secrets_in(server, folder.path))
    assert KEY not in (said := "".join(capsys.readouterr()))
    assert server.env["HOME"] not in said


def test_best_is_the_lowest_fid_of_the_same_protocol(folder: RunFolder) -> None:
    _end(folder, 3.0)
    mine = read_result(folder.result)
    assert follower.is_best(folder, mine)
    for fid, fingerprint, best in ((2.0, "other", True), (4.0, "f00d", True), (2.0, "f00d", False)):
        _end(create_run(folder.path.parent.parent, "little"), fid, fingerprint)
        assert follower.is_best(folder, mine) is best


def test_a_run_is_followed_and_goes_on_after_a_resume(server: WandbServer, folder: RunFolder) -> None:
    tracker = Tracker(Track(), folder, CONFIG)
    _train(folder, range(8))
    _until(lambda: folder.id in server.runs and server.runs[folder.id].history)
    assert tracker._uploader is not None
    assert _peak_megabytes(tracker._uploader._process.pid) < 200  # it is there as long as the run; with torch it had 600
    tracker.finish(1)
    run = server.runs[folder.id]
    assert run.state == "failed"
    # The checkpoint is older than the end of the log; the rows that the resumed run writes again are at W&B already.
    rows = folder.metrics.read_text().splitlines(keepends=True)
    folder.metrics.write_text("".join(rows[:6]))
    lost = next(name for name in run.files if "samples_4_" in name)
    kept = run.files.pop(lost)  # its row arrived before the kill, and it did not
    tracker = Tracker(Track(), folder, CONFIG)
    _train(folder, range(4, 12))
    _end(folder, 1.0)
    tracker.finish(0)
    assert _arrived(run) == _logged(folder)
    assert run.files[lost] == kept
    assert run.state == "finished"
    assert list(server.runs) == [folder.id]


def test_the_id_from_the_environment(server: WandbServer, folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    tracker = Tracker(Track(), folder, CONFIG)
    _train(folder, range(3))
    tracker.finish(1)
    assert _arrived(server.runs["mine"]) == _logged(folder)
    monkeypatch.delenv("WANDB_RUN_ID")
    assert main(["sync", str(folder.path)]) == 0
    assert list(server.runs) == ["mine"]


def test_a_server_that_dies_is_regretted_once_and_sync_mends_it(
    server: WandbServer, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "RUN_PATIENCE", 3)
    tracker = Tracker(Track(), folder, CONFIG)
    _train(folder, range(4))
    _until(folder.wandb.exists)
    server.stop()
    _train(folder, range(4, 12))
    _end(folder, 1.0)
    tracker.finish(0)
    said = capsys.readouterr().err
    assert said.count("`ddpm-lab sync ") == 1
    assert "did not take everything within 3 seconds" in said
    assert len(server.runs[folder.id].history) < len(_logged(folder))
    server.start()
    assert main(["sync", str(folder.path)]) == 0
    assert _arrived(server.runs[folder.id]) == _logged(folder)
    assert server.artifacts["little-ema"][0].aliases


def test_a_server_that_refuses_costs_no_run_and_sync_one_line(
    server: WandbServer, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = Tracker(Track(), folder, CONFIG)
    _until(folder.wandb.exists)
    server.refusal, server.refused = 403, "file_stream"  # which the client keeps to itself
    _train(folder, range(5))
    tracker.finish(0)
    said = capsys.readouterr().err
    assert said.count("`ddpm-lab sync ") == 1
    assert "it has 0 rows of 7" in said
    server.refused = ""
    assert main(["sync", str(folder.path)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "refused" in said
    server.refusal = None
    assert main(["sync", str(folder.path)]) == 0
    assert _arrived(server.runs[folder.id]) == _logged(folder)


def test_sync_leaves_a_run_alone_that_another_process_sends(
    server: WandbServer, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = Tracker(Track(), folder, CONFIG)
    _until(folder.wandb.exists)
    assert main(["sync", str(folder.path)]) == 2
    assert "another process is sending this run" in capsys.readouterr().err
    tracker.finish(0)
    assert main(["sync", str(folder.path)]) == 0


def test_no_file_outside_the_folder_is_taken_for_a_picture(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"")
    _train(folder, range(1))
    (row, _) = folder.read_metrics()
    assert folder.picture(row.pictures["samples"]) == (folder.samples / "000000000.png").resolve()
    for file in (str(tmp_path / "secret.png"), os.path.relpath(tmp_path / "secret.png", folder.path)):
        assert (folder.path / file).exists()
        assert folder.picture(Picture(file)) is None


def test_an_offline_run_that_is_resumed_keeps_one_whole_offline_folder(
    server: WandbServer, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for steps, failed in ((range(4), True), (range(4, 9), False)):
        tracker = Tracker(Track(), folder, CONFIG)
        assert tracker.where.startswith("offline; `ddpm-lab sync ")
        _train(folder, steps)
        if not failed:
            _end(folder, 1.0)
        tracker.finish(int(failed))
    assert not server.received
    (stream,) = folder.path.glob("wandb/offline-run-*/*.wandb")
    assert not list(_secrets_in(server, folder.path / "wandb"))
    command = [sys.executable, "-m", "wandb", "sync", str(stream.parent)]
    env = {**os.environ, "WANDB_MODE": "online"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, cwd=server.env["HOME"])
    assert done.returncode == 0, done.stdout
    assert _arrived(server.runs[folder.id]) == _logged(folder)
    assert main(["sync", str(folder.path)]) == 0
    assert _arrived(server.runs[folder.id]) == _logged(folder)
    assert server.artifacts["little-ema"][0].aliases


def _start(results: Path, env: dict[str, str], *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "ddpm_lab", "run", "smoke", *FEW, "train.images=6400", *words, "--results", str(results)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **env}, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_rows_arrive_while_the_run_goes_on_and_none_is_lost_when_all_its_processes_are_killed(
    server: WandbServer, folder: RunFolder
) -> None:
    tracker = Tracker(Track(), folder, CONFIG)
    _train(folder, range(8))
    _until(lambda: folder.id in server.runs and len(server.runs[folder.id].history) >= 8)
    _train(folder, range(8, 12))
    time.sleep(2 * follower.POLL)  # the client has these rows, and the server has not
    assert tracker._uploader
    os.killpg(tracker._uploader._process.pid, signal.SIGKILL)
    tracker.finish(1)
    assert 8 <= len(server.runs[folder.id].history) < len(_logged(folder))
    tracker = Tracker(Track(), folder, CONFIG)
    _train(folder, range(12, 15))
    tracker.finish(0)
    assert _arrived(server.runs[folder.id]) == _logged(folder)


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [True, False], ids=["resumed at once", "resumed when its follower has ended"])
def test_the_curves_of_a_killed_and_resumed_run_are_those_of_an_uninterrupted_one(
    at_once: bool, server: WandbServer, lab: Lab, tmp_path: Path
) -> None:
    process = _start(tmp_path, server.env)
    _until(lambda: any(file.stat().st_size > 5000 for file in tmp_path.glob("smoke/*/metrics.jsonl")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    _until(lambda: at_once or any(run.state == "failed" for run in server.runs.values()))
    again = lab("run", "smoke", *FEW, "train.images=6400", "--resume", "--results", tmp_path, env=server.env)
    assert again.returncode == 0, again.stderr
    assert "resuming" in again.stderr
    assert "sync" not in again.stderr, "W&B got everything"
    (broken,) = server.runs.values()
    assert _start(tmp_path, server.env).wait(300) == 0
    straight = next(run for run in server.runs.values() if run is not broken)

    def curves(run: Run) -> list[dict[str, Any]]:
        return [{key: value for key, value in row.items() if "second" not in key} for row in _arrived(run)]

    assert curves(broken) == curves(straight)
    assert len(curves(broken)) > 100


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["refuses from the start", "refuses in the middle", "is slow", "cannot be reached"])
def test_no_server_costs_a_run(fault: str, server: WandbServer, lab: Lab, tmp_path: Path) -> None:
    env = dict(server.env)
    if fault == "refuses from the start":
        server.refusal = 500
    elif fault == "is slow":
        server.delay = 4
    elif fault == "cannot be reached":
        env["WANDB_BASE_URL"] = "http://127.0.0.1:9"
    process = _start(tmp_path, env)
    if fault == "refuses in the middle":
        _until(lambda: server.runs)
        server.refusal = 500
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert (tmp_path / "latest/result.json").exists()
    assert said.count("`ddpm-lab sync ") <= 1, said
    assert "`ddpm-lab sync " in said or fault == "is slow", said
    assert KEY not in said
    server.refusal, server.delay = None, 0.0
    assert main(["sync", str(tmp_path / "latest")]) == 0
    (run,) = server.runs.values()
    assert _arrived(run) == _logged(RunFolder((tmp_path / "latest").resolve()))
    assert run.state == "finished"


def test_a_real_run_is_tracked_with_its_pictures_and_weights_and_tells_no_secret(
    server: WandbServer, lab: Lab, tmp_path: Path
) -> None:
    results = Path(server.env["HOME"]) / "results"
    done = lab("run", "smoke", *FEW, "track.tags=[a,b]", "--results", results, env=server.env)
    assert done.returncode == 0, done.stderr
    assert f"W&B: {server.url}/" in done.stderr
    folder = RunFolder((results / "latest").resolve())
    run = server.runs[folder.id]
    assert _arrived(run) == _logged(folder)
    assert [row["images"] for row in run.history if "samples" in row] == [0, 64, 128, 192, 256]
    assert (run.tags, run.group, run.name, run.project) == (["a", "b"], "smoke", folder.id, "ddpm_lab")
    assert run.config["backbone"]["name"] == "patch_unet"
    result = json.loads(folder.result.read_text())["metrics"][0]
    assert run.summary["FID/fashion_cnn"] == result["value"]
    assert run.summary["FID/fashion_cnn/fingerprint"] == result["fingerprint"]
    assert server.artifacts["smoke-ema"][0].files["ema.safetensors"] == folder.weights("ema").read_bytes()
    assert not list(_secrets_in(server, folder.path))
    assert KEY not in done.stderr
    assert server.env["HOME"] not in done.stderr
