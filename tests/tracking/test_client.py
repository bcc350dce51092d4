"""W&B's client is as `ddpm_lab.tracking.client` needs it. Where it is not, change that module and the pin in setup.cfg."""

import configparser
import os
import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import wandb
from conftest import ROOT
from PIL import Image

from ddpm_lab.tracking import client


def test_the_installed_client_is_of_the_minor_version_that_is_pinned() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    pinned = re.search(r"^wandb>=0\.(\d+),<0\.(\d+)$", setup["options"]["install_requires"], re.M)
    assert pinned, "one minor version of wandb, such as wandb>=0.31,<0.32"
    assert int(pinned[2]) == int(pinned[1]) + 1
    assert version("wandb").startswith(f"0.{pinned[1]}.")


def test_the_client_knows_no_setting_that_is_not_its_own() -> None:
    with pytest.raises(ValueError, match="x_disable_metadata"):
        wandb.Settings(x_disable_metadata=True)  # so one that it has dropped is an error in `settings`, and not ignored


def test_a_picture_lies_where_it_is_looked_for_and_nothing_tells_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "theirs"))
    picture = tmp_path / "a.png"
    Image.new("L", (8, 8), color=3).save(picture)
    run = wandb.init(mode="offline", dir=tmp_path, project="p", id="little", settings=client.settings(20, lambda: None))
    for step in range(3):
        run.log({"loss": 1.0} if step < 2 else {"samples": wandb.Image(str(picture))}, step=step, commit=True)
    run.finish()
    wandb.teardown()  # else clients that later tests start would join the service of this one
    offline = client.offline_folder(tmp_path)
    assert (offline / "files" / client.media_name("samples", 2, picture)).read_bytes() == picture.read_bytes()
    assert len(list(offline.glob("*.wandb"))) == 1  # the log that `wandb sync` sends
    told = b"".join(file.read_bytes() for file in offline.rglob("*") if file.is_file())
    assert not [secret for secret in (sys.executable, str(tmp_path), os.getcwd()) if secret.encode() in told]
