"""What the tests share: a home of their own, and the command line as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from support.forks import Forks
from support.plugins_out import plugins_out
from support.wandb_server import WandbServer

ROOT = Path(__file__).resolve().parent.parent
KEY = "0123456789" * 4  # of a W&B account that is nobody's
Lab = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A machine without a GPU skips what needs one, and says so."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no GPU on this machine"))


@pytest.fixture(autouse=True)
def _untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test talks to W&B unless it says so itself."""
    monkeypatch.setenv("WANDB_MODE", "disabled")


@pytest.fixture(autouse=True)
def _built_in_alone() -> Iterator[None]:
    """A plugin that a test loads is taken out when the test ends."""
    with plugins_out():
        yield


@pytest.fixture
def wandb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WandbServer]:
    """A W&B server on a free port; `lab(..., env=wandb_server.env)` is logged in to it, in a home of its own."""
    home = tmp_path_factory.mktemp("home") / "Ada Löwe's, at home"  # what YAML folds, and JSON and HTML escape
    home.mkdir()
    cache = os.environ.get("DDPM_LAB_CACHE") or str(Path.home() / ".cache/ddpm_lab")
    with WandbServer() as server:
        server.env = {
            "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_MODE": "online", "HOME": str(home),
            "DDPM_LAB_CACHE": cache,
        }  # fmt: skip
        yield server


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """`forks.start("run", "smoke")`: the command in a process of its own, which may be killed."""
    yield (made := Forks())
    made.close()


@pytest.fixture
def lab(forks: Forks) -> Lab:
    """`lab("run", "smoke", cwd=...)`: the command in a process of its own, in the repository unless said otherwise."""

    def call(*words: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None, timeout: int = 300) -> object:
        process = forks.start(*words, cwd=cwd, env=env)
        said = process.communicate(timeout)
        return subprocess.CompletedProcess(process.args, process.wait(), *said)

    return call  # type: ignore[return-value]


class Outcome(NamedTuple):
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str
    grown: int  # KiB of memory at its peak


Quick = Callable[..., Outcome]


@pytest.fixture(scope="session")
def quick() -> Iterator[Quick]:
    """`quick("check", "smoke", cwd=...)`: the command in one process that all tests share, because importing takes seconds."""
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/support/one_process.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "WANDB_MODE": "disabled", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None

    def call(*words: str | Path, cwd: Path = ROOT) -> Outcome:
        server.stdin.write(json.dumps([[*map(str, words)], str(cwd)]) + "\n")
        server.stdin.flush()
        return Outcome(*json.loads(server.stdout.readline()))

    yield call
    server.stdin.close()
    server.wait(60)


@pytest.fixture(scope="session")
def smoke_run(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the smoke experiment, with classes, made once by the command line."""
    results = tmp_path_factory.mktemp("smoke") / "results"
    process = forks.start("run", "smoke", "classes=true", "--results", results, env={"WANDB_MODE": "disabled"})
    _, said = process.communicate()
    assert process.returncode == 0, said
    return (results / "latest").resolve()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of five megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
