"""Checkpoints: whole or not there, verified, and never lost to a write that fails."""

import resource
import subprocess
from pathlib import Path

import pytest
import torch

from ddpm_lab.runtime.seeding import STREAMS
from ddpm_lab.storage.checkpoints import Checkpoint, Checkpoints
from registry.errors import BadInput


def _checkpoint(number: int, size: int = 1000) -> Checkpoint:
    return Checkpoint(
        number, 3, {"sampling_seconds": 1.5}, STREAMS, {"network": {"weight": torch.full((size,), float(number))}}
    )


def _saved(folder: Path, *images: int, keep: int = 2) -> Checkpoints:
    checkpoints = Checkpoints(folder)
    for count in images:
        checkpoints.save(_checkpoint(count), keep)
    return checkpoints


def _number(found: Checkpoint | None) -> float:
    assert found is not None
    assert (found.rows, found.costs, found.random_streams) == (3, {"sampling_seconds": 1.5}, STREAMS)
    assert float(found.trainer["network"]["weight"][0]) == found.images
    return found.images


def test_the_newest_comes_back_and_so_many_are_kept(tmp_path: Path) -> None:
    checkpoints = _saved(tmp_path, 100, 200, 300, 400, keep=3)
    assert _number(checkpoints.load()) == 400
    assert sorted(file.name for file in tmp_path.glob("*.pt")) == ["000000200.pt", "000000300.pt", "000000400.pt"]
    assert len(list(tmp_path.iterdir())) == 6
    assert Checkpoints(tmp_path / "elsewhere").load() is None


def test_the_checksum_is_the_one_that_sha256sum_verifies(tmp_path: Path) -> None:
    _saved(tmp_path, 100)
    done = subprocess.run(["sha256sum", "-c", "000000100.pt.sha256"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "000000100.pt: OK\n"


@pytest.mark.parametrize("damage", ["flipped", "truncated", "gone", "checksum gone", "checksum empty", "checksum not text"])
def test_a_damaged_one_is_named_and_the_one_before_it_is_used(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = _saved(tmp_path, 100, 200)
    newest, checksum = tmp_path / "000000200.pt", tmp_path / "000000200.pt.sha256"
    content = bytearray(newest.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
        newest.write_bytes(content)
    elif damage == "truncated":
        newest.write_bytes(content[:-100])
    elif damage == "gone":
        newest.unlink()
    elif damage == "checksum gone":  # as when the process was killed between the two
        checksum.unlink()
    else:
        checksum.write_bytes(b"" if damage == "checksum empty" else b"\xff\xfe")
    assert _number(checkpoints.load()) == 100
    said = capsys.readouterr().err
    assert ("000000200.pt: damaged" in said) == (damage != "checksum gone")
    # The next one goes on from there, and what was damaged is cleared away.
    checkpoints.save(_checkpoint(200), keep=2)
    assert _number(checkpoints.load()) == 200


def test_when_all_are_damaged_the_error_says_so(tmp_path: Path) -> None:
    checkpoints = _saved(tmp_path, 100, 200)
    for file in tmp_path.glob("*.pt"):
        file.write_bytes(b"")
    with pytest.raises(BadInput, match="every checkpoint is damaged; start a new run"):
        checkpoints.load()


def test_a_checkpoint_with_a_pickle_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (tmp_path / "sprung",))

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Checkpoint(100, 0, {}, STREAMS, {"network": Trap()}), keep=1)
    with pytest.raises(BadInput, match="not a checkpoint of tensors and numbers"):
        checkpoints.load()
    assert not (tmp_path / "sprung").exists()


def _unharmed(checkpoints: Checkpoints) -> None:
    assert _number(checkpoints.load()) == 100
    assert sorted(file.name for file in checkpoints.folder.iterdir()) == ["000000100.pt", "000000100.pt.sha256"]


def test_a_full_disk_leaves_the_last_one_as_it_was(small_disk: Path) -> None:
    checkpoints = Checkpoints(small_disk / "checkpoints")
    checkpoints.save(_checkpoint(100, 500_000), keep=1)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(_checkpoint(200, 1_000_000), keep=1)
    _unharmed(checkpoints)


def test_a_read_only_disk_leaves_the_last_one_as_it_was(small_disk: Path) -> None:
    checkpoints = _saved(small_disk / "checkpoints", 100)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OSError, match="Read-only"):
        checkpoints.save(_checkpoint(200), keep=1)
    _unharmed(checkpoints)


def test_a_quota_leaves_the_last_one_as_it_was(tmp_path: Path) -> None:
    checkpoints = _saved(tmp_path / "checkpoints", 100)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoints.save(_checkpoint(200, 100_000), keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    _unharmed(checkpoints)
