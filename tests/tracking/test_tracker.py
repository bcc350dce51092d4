"""The decision how a run is tracked: without a prompt, and for the server that the user is logged in to."""

from pathlib import Path

import pytest
from conftest import KEY, Lab

from ddpm_lab.cli.main import main
from ddpm_lab.config.load import load_recipe
from ddpm_lab.config.schema import Track
from ddpm_lab.tracking.login import mode_of
from registry.errors import BadInput

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
    _logged_out(monkeypatch, tmp_path)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert mode_of(Track.model_validate(track)) == mode


def test_a_login_in_netrc_counts_for_its_server_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _logged_out(monkeypatch, tmp_path)
    (tmp_path / "netrc").write_text(f"machine wandb.example.org login user password {KEY}\n")
    (tmp_path / "netrc").chmod(0o600)
    assert mode_of(Track()) == "offline"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert mode_of(Track()) == "online"
    monkeypatch.delenv("WANDB_BASE_URL")
    (tmp_path / "settings").write_text("[default]\nbase_url = https://wandb.example.org\n")  # as `wandb login --host` does
    assert mode_of(Track()) == "online"


def _logged_out(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(folder))


@pytest.mark.parametrize(
    "override", ["track.tags=[a,'']", "track.tags=once", "track.project=a/b", "track.run_name=''", f"track.group={'x' * 129}"]
)
def test_words_that_wandb_would_refuse_are_refused_at_once(override: str) -> None:
    with pytest.raises(BadInput, match=override.split("=")[0]):
        load_recipe("smoke", [override])


def test_disabled_leaves_no_trace(lab: Lab, tmp_path: Path) -> None:
    done = lab("run", "smoke", *FEW, "--results", tmp_path, env={"WANDB_MODE": "disabled"})
    assert done.returncode == 0, done.stderr
    assert "not tracked" in done.stderr
    assert not [file for file in (tmp_path / "latest").resolve().iterdir() if "wandb" in file.name]


def test_sync_says_in_one_line_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _logged_out(monkeypatch, tmp_path)
    (tmp_path / "run").mkdir()
    assert main(["sync", str(tmp_path / "run")]) == 2
    assert "no run at" in capsys.readouterr().err
    (tmp_path / "run/resolved.yaml").write_text("track: {tags: 1}\n")
    assert main(["sync", str(tmp_path / "run")]) == 2
    assert "resolved.yaml: track: " in capsys.readouterr().err
    (tmp_path / "run/resolved.yaml").write_text("track: {name: wandb}\n")
    assert main(["sync", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "`wandb login`" in said
