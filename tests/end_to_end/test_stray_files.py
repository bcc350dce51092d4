"""What does not belong to a run or a set: a stranger's file among a run's own, and pictures that cannot be read."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_lab.reports.run_report import write_report
from ddpm_lab.storage.checkpoints import Checkpoint, Checkpoints
from ddpm_lab.storage.measurement import read_result
from ddpm_lab.storage.run_folder import RunFolder
from registry.datasets import ImageSet
from registry.datasets.image_folder import image_folder
from registry.errors import BadInput

STRAY = ("mine.png", "²00000000.png", "000000005.png.bak", "5.png", "000000064 (copy).png", ".partial-1-000000064.png")


def test_stray_pictures_cost_no_run_its_report(smoke_run: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(smoke_run, folder.path)
    result = read_result(folder.result)
    write_report(folder, result)
    before = folder.report.read_text()
    grids = re.findall('data:image/png[^"]*', before)
    for number, name in enumerate(STRAY):
        Image.new("L", (4, 4), number).save(folder.samples / name, "PNG")
    write_report(folder, result)
    assert re.findall('data:image/png[^"]*', folder.report.read_text()) == grids
    Image.new("L", (4, 4)).save(folder.samples / "1000000000.png")
    write_report(folder, result)
    assert folder.report.read_text().index("1,000,000,000") > before.index("1,600"), "by number, and not by letter"


def test_stray_files_among_checkpoints_are_left_alone(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    strays = [tmp_path / name for name in ("mine.pt", "5.x.pt", "5.x.pt.sha256", "².pt.sha256", "000000032.pt.bak")]
    for file in strays:
        file.write_text("mine")
    for images in (64, 128, 192):
        checkpoints.save(Checkpoint(images, 0, {}, 1, {}), keep=1)
    assert checkpoints.newest() == 192
    found = checkpoints.load()
    assert found is not None
    assert found.images == 192
    assert all(file.read_text() == "mine" for file in strays), "nothing of a stranger's is deleted"
    assert not (tmp_path / "000000128.pt").exists()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """40 pictures, of which every tenth is held out."""
    monkeypatch.setenv("DDPM_LAB_CACHE", str(tmp_path / "cache"))
    (images := tmp_path / "images").mkdir()
    for number in range(40):
        Image.fromarray(np.full((8, 8, 3), number * 6, np.uint8)).save(images / f"{number:02d}.png")
    return images


def _break(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:40])


def _load(folder: Path, stream: bool, unreadable: str = "stop") -> ImageSet:
    return image_folder(folder=str(folder), size=8, stream=stream, unreadable=unreadable)  # type: ignore[arg-type]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("broken", [["07.png", "31.png"], ["20.png"]], ids=["of those to learn from", "of those held out"])
def test_a_picture_that_cannot_be_read_is_named_and_counted_before_the_training(
    broken: list[str], stream: bool, folder: Path
) -> None:
    for name in broken:
        _break(folder / name)
    of = {2: 36, 1: 4}[len(broken)]
    with pytest.raises(BadInput) as caught:
        _load(folder, stream)
    assert str(caught.value).startswith(f"{folder / broken[0]}: cannot be read as an image")
    assert f"{len(broken)} of {of} images cannot be read" in str(caught.value)
    assert "dataset.unreadable=skip" in str(caught.value)


@pytest.mark.parametrize("stream", [False, True])
def test_pictures_that_cannot_be_read_are_left_out_where_that_is_wished(stream: bool, folder: Path) -> None:
    for name in ("01.png", "07.png", "20.png"):
        _break(folder / name)
    found = _load(folder, stream, "skip")
    assert (len(found.train), len(found.test)) == (34, 3)
    assert "3 unreadable images left out: " in found.source
    assert all(name in found.source for name in ("01.png", "07.png", "20.png"))
    pixels = torch.cat(list(found.train.batches(10)))
    assert pixels[:, 0, 0, 0].tolist() == [number * 6 for number in range(40) if number % 10 and number not in (1, 7)]
    again = _load(folder, not stream, "skip")
    assert again.train.hash == found.train.hash
    assert again.test.hash == found.test.hash
    with pytest.raises(BadInput, match=r"01\.png: cannot be read .* 2 of 36 images"):
        _load(folder, stream)


def test_a_picture_that_went_bad_behind_the_cache_is_seen_and_one_that_was_mended_too(folder: Path) -> None:
    """Size and time of the file are as they were: the pass that the cache remembers does not know of it."""
    _load(folder, True)
    about, whole = (folder / "15.png").stat(), (folder / "15.png").read_bytes()
    (folder / "15.png").write_bytes(bytes(len(whole)))
    os.utime(folder / "15.png", ns=(about.st_atime_ns, about.st_mtime_ns))
    with pytest.raises(BadInput, match=r"15\.png: cannot be read .* 1 of 36 images"):
        _load(folder, True)
    (folder / "15.png").write_bytes(whole)
    os.utime(folder / "15.png", ns=(about.st_atime_ns, about.st_mtime_ns))
    assert len(_load(folder, True).train) == 36


@pytest.mark.parametrize("stream", [False, True])
def test_a_set_of_which_nothing_can_be_read_is_refused_even_so(stream: bool, folder: Path) -> None:
    for file in folder.iterdir():
        _break(file)
    with pytest.raises(BadInput, match=r"01\.png: cannot be read as an image"):
        _load(folder, stream, "skip")
