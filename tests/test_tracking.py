"""Tracking: the mode is decided without a prompt, local files have everything, and no failure of W&B costs a run."""

import sys
import time
import types
from pathlib import Path

import pytest
from conftest import Lab

from ddpm_lab.experiment import Track
from ddpm_lab.tracking import Tracker, _mode

KEY = "0123456789" * 4
FEW = ["train.images=64", "evaluate.n=8", "evaluate.n_during=4", "evaluate.every=32", "track=wandb"]


@pytest.mark.parametrize(
    ("track", "env", "mode"),
    [
        ({}, {}, "offline"),
        ({}, {"WANDB_API_KEY": KEY}, "online"),
        ({}, {"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "offline"),
        ({}, {"WANDB_API_KEY": KEY, "WANDB_MODE": "disabled"}, "disabled"),
        ({"mode": "online"}, {}, "offline"),  # nobody is logged in, and nobody is asked
        ({"mode": "online"}, {"WANDB_API_KEY": KEY}, "online"),
        ({"mode": "online"}, {"WANDB_API_KEY": KEY, "WANDB_MODE": "disabled"}, "disabled"),
        ({"mode": "offline"}, {"WANDB_API_KEY": KEY}, "offline"),
        ({"name": "none"}, {"WANDB_API_KEY": KEY, "WANDB_MODE": "online"}, "disabled"),
    ],
)
def test_the_mode(
    track: dict[str, str], env: dict[str, str], mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert _mode(Track.model_validate(track)) == mode


def test_a_login_in_netrc_counts_for_its_server_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text(f"machine wandb.example.org login user password {KEY}\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert _mode(Track()) == "offline"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert _mode(Track()) == "online"


def test_offline_by_default_and_the_client_gets_all_that_the_folder_has(lab: Lab, tmp_path: Path) -> None:
    env = {"WANDB_MODE": "", "WANDB_API_KEY": "", "NETRC": str(tmp_path / "netrc")}
    done = lab("run", "smoke", *FEW, "--results", tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "W&B: offline" in done.stderr
    (stream,) = (tmp_path / "latest").resolve().glob("wandb/offline-run-*/*.wandb")
    history = stream.read_bytes()
    for words in (b"FID/fashion_cnn", b"learning_rate", b"images_per_second", b"samples", b"backbone"):
        assert words in history, words


def test_disabled_leaves_no_trace(lab: Lab, tmp_path: Path) -> None:
    done = lab("run", "smoke", *FEW, "--results", tmp_path, env={"WANDB_MODE": "disabled"})
    assert done.returncode == 0, done.stderr
    assert "not tracked" in done.stderr
    assert not list((tmp_path / "latest").resolve().glob("wandb*"))


@pytest.mark.slow
def test_a_server_that_cannot_be_reached_costs_seconds_and_no_run(lab: Lab, tmp_path: Path) -> None:
    env = {"WANDB_MODE": "", "WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    start = time.monotonic()
    done = lab("run", "smoke", *FEW, "--results", tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "W&B failed while starting" in done.stderr
    assert KEY not in done.stderr
    assert time.monotonic() - start < 90
    assert (tmp_path / "latest/result.json").exists()


def test_a_client_that_fails_in_the_middle_is_said_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Run:
        url, dir, id = "https://example.org/run", str(tmp_path), "x"
        calls = 0

        def define_metric(self, *_: object, **__: object) -> None: ...

        def log(self, row: object) -> None:
            Run.calls += 1
            raise OSError("the server went away")

    fake = types.SimpleNamespace(init=lambda **_: Run(), Settings=lambda **_: None)
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    monkeypatch.setenv("WANDB_MODE", "")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    tracker = Tracker(Track(), tmp_path, "name", "group", {})
    for images in range(3):
        tracker.log({"images": images})
    tracker.summary({"FID": 1.0})
    tracker.finish()
    assert Run.calls == 1
    assert capsys.readouterr().err.count("the server went away") == 1
