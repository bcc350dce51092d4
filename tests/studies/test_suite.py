"""A suite as a user starts it: small ones, in a folder of their own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from support.wandb_server import WandbServer

from registry.errors import BadInput

SMALL = [
    "train.images=320", "train.batch=32", "train.samples_every=null", "evaluate.n=120", "evaluate.every=null",
    "sampling.steps=4",
]  # fmt: skip
PLAN: dict[str, Any] = {
    "about": "A test.",
    "experiments": ["smoke", {"name": "v", "experiment": "smoke", "set": ["target=v"]}],
    "seeds": [0, 1],
    "set": SMALL,
    "factors": {"target": "target.name"},
    "metrics": ["FID", "recall", "held_out_loss"],
    "curve": {"samplers": ["ddim"], "at": [2, 4], "n": 120},
}


def _suite(folder: Path, words: Sequence[str] = (), env: dict[str, str] | None = None, **changed: Any) -> list[str]:
    (folder / "small.yaml").write_text(json.dumps(PLAN | changed))
    return [
        sys.executable,
        str(ROOT / "benchmarks/suite.py"),
        "small.yaml",
        "--results",
        "results",
        "--reports",
        "reports",
        *words,
    ]


def _run(folder: Path, *words: str, env: dict[str, str] | None = None, **changed: Any) -> "subprocess.CompletedProcess[str]":
    places = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        _suite(folder, words, **changed), cwd=folder, env=os.environ | places | (env or {}), capture_output=True, text=True
    )


@pytest.fixture(autouse=True)
def _experiments(tmp_path: Path) -> None:
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")


def test_a_suite_is_run_reported_and_not_run_again(tmp_path: Path) -> None:
    done = _run(tmp_path)
    assert done.returncode == 0, done.stderr
    report = tmp_path / "reports/small"
    found = json.loads((report / "report.json").read_text())
    assert {run["status"] for one in found["experiments"] for run in one["runs"]} == {"finished"}
    ranked = [one["typical"]["value"] for one in found["experiments"]]
    assert ranked == sorted(ranked)
    assert found["freedom"] == 2
    levels = found["factors"]["target"]["levels"]
    assert levels[1]["ratio"] == pytest.approx(ranked[1] / ranked[0])
    assert [len(one["curve"]) for one in found["experiments"]] == [2, 2]
    assert found["curve_at"] == [2, 4]
    page, text = (report / "report.html").read_text(), (report / "report.md").read_text()
    assert page.count("<svg") == 2  # the ranking and the curve: nothing was measured while it trained
    assert page.count("data:image/png") == 2
    assert not re.search(r"""(src|href)=(?!["'](data:|#))|@import|url\((?!#)""", page)  # one file, which loads nothing
    for word in ("| 1 | `", "held-out images", "No p-values", found["protocols"]["FID"]["fingerprint"]):
        assert word in text
    assert str(tmp_path) not in page + text
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "results").rglob("result.json")}
    assert len(before) == 4
    again = _run(tmp_path)
    assert again.returncode == 0, again.stderr
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "results").rglob("result.json")} == before
    changed = _run(tmp_path, seeds=[0], set=[*SMALL, "train.clip=0.5"], curve=None)
    assert changed.returncode == 0, changed.stderr
    assert len(list((tmp_path / "results").rglob("result.json"))) == 6  # other runs; none is taken for another


def test_it_goes_on_after_it_was_killed(tmp_path: Path) -> None:
    places = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    changed: dict[str, Any] = {"seeds": [0], "curve": None, "set": [*SMALL, "train.images=6400", "train.checkpoint_every=320"]}
    process = subprocess.Popen(_suite(tmp_path, **changed), cwd=tmp_path, env=os.environ | places, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("checkpoints/*")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (run,) = tmp_path.glob("results/small/smoke/*")
    time.sleep(1)
    left = sorted((run / "checkpoints").iterdir())
    time.sleep(1)
    assert sorted((run / "checkpoints").iterdir()) == left, "the run was killed with it"
    done = _run(tmp_path, **changed)
    assert done.returncode == 0, done.stderr
    assert f"resuming results/small/smoke/{run.name}" in done.stderr
    assert (run / "result.json").is_file()


def test_a_run_that_fails_is_shown_as_failed_and_tried_again(tmp_path: Path) -> None:
    bad = {"name": "wild", "experiment": "smoke", "set": ["train.rate.peak=1e30"]}
    common = [*SMALL, "train.rate.warmup=0", "train.clip=null"]
    for _ in range(2):
        done = _run(
            tmp_path, experiments=["smoke", bad], seeds=[0], curve=None, set=common, factors={"rate": "train.rate.peak"}
        )
        assert done.returncode == 0, done.stderr
        assert "wild-0-" in done.stderr
        assert "failed with exit status 1" in done.stderr
    found = json.loads((tmp_path / "reports/small/report.json").read_text())
    assert [run["status"] for run in found["failed"]] == ["failed"]
    assert found["experiments"][-1]["name"] == "wild"
    assert "seed 0 failed (1)" in (tmp_path / "reports/small/report.html").read_text()
    assert "**failed**, exit status 1" in (tmp_path / "reports/small/report.md").read_text()


def test_tables_pictures_and_page_reach_wandb(tmp_path: Path, wandb_server: WandbServer) -> None:
    done = _run(tmp_path, env=wandb_server.env, seeds=[0], experiments=["smoke"], set=[*SMALL, "track.mode=disabled"])
    assert done.returncode == 0, done.stderr
    (run,) = wandb_server.runs.values()
    assert run.name == "suite small"
    (row,) = run.history
    for key in ("ranking", "runs", "effects", "curves", "samples/smoke", "report"):
        assert key in row, row
    assert any("table" in name for name in run.files)
    assert any(name.endswith(".png") for name in run.files)
    assert any(name.endswith(".html") for name in run.files)


def test_without_wandb_the_report_stands(tmp_path: Path) -> None:
    """A server that refuses at once; the time that a silent one gets is what `suite_tracking.PATIENCE` says."""
    env = {"WANDB_MODE": "online", "WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    env |= {"DDPM_LAB_CACHE": str(tmp_path / "cache"), "SUITE_PATIENCE": "5"}
    done = _run(tmp_path, env=env, seeds=[0], experiments=["smoke"], curve=None)
    assert done.returncode == 0, done.stderr
    assert "W&B: it did not take everything within 5 s; the report is whole" in done.stderr
    assert (tmp_path / "reports/small/report.html").is_file()


def test_a_suite_that_is_asked_to_stop_lets_its_run_save(tmp_path: Path) -> None:
    places = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    changed: dict[str, Any] = {"seeds": [0], "curve": None, "set": [*SMALL, "train.images=64000", "train.checkpoint_every=320"]}
    process = subprocess.Popen(
        _suite(tmp_path, **changed), cwd=tmp_path, env=os.environ | places, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("checkpoints/*")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "everything is saved" in said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"experiments": ["smokey"]}, "did you mean 'smoke'"),
        ({"seeds": [1, 1]}, "seeds: one is there twice"),
        ({"factors": {"loss": "los.name"}}, "factors.loss: 'los.name' is no key"),
        ({"set": ["train.image=3"]}, "did you mean 'images'"),
        ({"budgets": "cpu"}, "known: about"),
        ({"curve": {"samplers": ["ddim"], "at": [2]}}, "curve"),
        ({"curve": {"samplers": ["ddimm"], "at": [2, 4], "n": 120}}, "did you mean 'ddim'"),
        ({"curve": {"samplers": ["ddim"], "at": [2, 4000], "n": 120}}, "4000 steps do not fit"),
        ({"metrics": ["FIDD"]}, "did you mean 'FID'"),
        ({"metrics": ["recall"]}, "metrics: recall comes first"),
        ({"set": ["seed=3"]}, "seeds are named under `seeds`"),
        ({"experiments": ["smoke", {"name": "v", "experiment": "smoke", "sett": []}]}, "known: name, experiment, set"),
        ({"experiments": ["smoke", {"name": "v", "experiment": "smoke", "set": ["evaluate.n=130"]}]}, "another evaluate.n"),
        ({"experiments": ["smoke", {"name": "v", "experiment": "smoke", "set": ["target=v", "loss=l1"]}]}, "another loss.name"),
        ({"experiments": ["smoke", {"name": "again", "experiment": "smoke"}]}, "the same levels of all"),
    ],
)
def test_bad_input_is_named_before_anything_runs(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    done = _run(tmp_path, **changed)
    assert done.returncode == 2
    assert said in done.stderr
    assert "small.yaml" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list((tmp_path / "results").rglob("resolved.yaml"))


@pytest.mark.parametrize("content", ["{", "[1]", '{"a": "b"}', "[" * 100_000, "\xff"])
def test_a_damaged_list_of_failures_is_named_with_its_remedy(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import suite

    (tmp_path / "failures.json").write_text(content, encoding="latin-1")
    with pytest.raises(BadInput, match=r"failures\.json: ") as caught:
        suite.failures(tmp_path)
    assert "remove it" in str(caught.value)
    assert "\n" not in str(caught.value)
