"""What the tests share: a home of their own, and the command line as a user types it."""

from __future__ import annotations

import atexit
import gc
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock
from support.forks import ADDRESS, Forks, Server
from support.wandb_server import WandbServer

ROOT = Path(__file__).resolve().parent.parent
KEY = "0123456789" * 4  # of a W&B account that is nobody's
Lab = Callable[..., "subprocess.CompletedProcess[str]"]
# Two processes that share the files end together where the long ones come first; the rest fills the gaps.
LONG = [
    "studies/test_suite.py", "end_to_end/test_experiments.py", "export/test_export.py", "end_to_end/test_distributed.py",
    "cli/test_cli.py", "api/test_python.py", "tracking/test_uploader.py", "end_to_end/test_traps.py",
    "end_to_end/test_nothing_lost.py", "training/test_ema.py", "end_to_end/test_agents.py", "architecture/test_parts_table.py",
    "studies/test_explain.py", "end_to_end/test_any_with_any.py", "end_to_end/test_adding_a_part.py", "test_testing.py",
]  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """One process is forked for all tests; those of xdist inherit where it listens."""
    if not hasattr(config, "workerinput"):
        server = Server()
        os.environ[ADDRESS] = server.address
        config.add_cleanup(server.close)
        config.option.loadscopereorder = False  # xdist would put the files with the most tests first


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first. A machine without a GPU skips what needs one, and says so."""
    place = {ROOT / "tests" / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(LONG)))
    import torch  # here, because the process that hands out tests needs none of it

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no GPU on this machine"))


def pytest_collection_finish() -> None:
    """What is imported by now stays, and need not be looked through for garbage again and again."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # some of it complains if it is not torn down


@pytest.fixture(autouse=True)
def _untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test talks to W&B unless it says so itself."""
    monkeypatch.setenv("WANDB_MODE", "disabled")


@pytest.fixture(autouse=True)
def _built_in_alone() -> Iterator[None]:
    """A plugin that a test loads is taken out when the test ends."""
    from support.plugins_out import plugins_out

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
def forks() -> Forks:
    """`forks.start("run", "smoke")`: the command in a process of its own, which may be killed."""
    return Forks()


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
def quick(forks: Forks) -> Iterator[Quick]:
    """`quick("check", "smoke", cwd=...)`: the command in one process that all tests share, because importing takes seconds."""
    process, orders = forks.one_process({"WANDB_MODE": "disabled"})

    def call(*words: str | Path, cwd: Path = ROOT) -> Outcome:
        orders.write(json.dumps([[*map(str, words)], str(cwd)]) + "\n")
        orders.flush()
        return Outcome(*json.loads(process.stdout.readline()))

    yield call
    orders.close()
    process.wait(60)


@pytest.fixture(scope="session")
def smoke_run(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the smoke experiment, with classes, made once by the command line; each process of xdist has a copy."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "smoke-shared"
    with FileLock(f"{shared}.lock"):
        if not (shared / "latest/result.json").exists():
            process = forks.start("run", "smoke", "classes=true", "--results", shared, env={"WANDB_MODE": "disabled"})
            _, said = process.communicate()
            assert process.returncode == 0, said
    results = Path(shutil.copytree(shared, tmp_path_factory.mktemp("smoke") / "results", symlinks=True))
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
