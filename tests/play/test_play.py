"""The playground in a real browser: each control does what it says, bad values are refused, nothing leaves the machine."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from support.browser import PROGRAM, Browser
from torch import Tensor

import ddpm_lab as lab
from ddpm_lab.cli.main import main
from ddpm_lab.play.page import IMAGES, ROW, Page, Watched
from ddpm_lab.storage.images import grid_of
from registry.grids import GRIDS
from registry.samplers import SAMPLERS

needs_gradio = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="gradio is not installed: `make play` does"
)
needs_browser = pytest.mark.skipif(PROGRAM is None, reason="no chromium on this machine")
# What the server connects to is written down by Python itself, whoever does it.
SERVER = """
import json, os, sys
def told(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        with open(sys.argv[1], "a") as file:
            file.write(json.dumps([event, str(args[1] if event != "socket.getaddrinfo" else args[0])]) + "\\n")
sys.addaudithook(told)
from ddpm_lab.cli.main import main
sys.exit(main(["play", *sys.argv[2:]]))
"""
DONE = r"/^step (\d+) of \1 /.test(document.querySelector('#cost').innerText)"


def test_a_run_knows_what_can_be_chosen(smoke_run: Path) -> None:
    run = Watched(smoke_run)
    assert run.samplers()[0] == "ddim"
    assert set(run.samplers()) == {part.name for part in SAMPLERS} - {"consistency", "flow_map"}, "which take other networks"
    for name in run.samplers():
        assert run.sample(1, sampler=name, steps=2).shape == (1, 1, 16, 16)
    for name in (part.name for part in GRIDS):
        if name in run.schedules():
            assert run.sample(1, schedule=name).shape == (1, 1, 16, 16)
        else:
            with pytest.raises(lab.BadInput):
                run.sample(1, schedule=name)
    assert run.strength() == 1.0


def test_steps_come_with_their_cost_until_they_are_stopped(smoke_run: Path) -> None:
    run = Watched(smoke_run)
    seen = list(run.steps(2, sampler="heun", steps=4, guidance=2.0))
    assert [step.step for step in seen] == [0, 1, 2, 3, 4]
    assert seen[-1].evaluations == 2 * (2 * 4 - 1), "with and without classes; the last step of heun takes one"
    assert torch.equal(seen[-1].images, lab.load(smoke_run).sample(2, sampler="heun", steps=4, guidance=2.0))
    with pytest.raises(lab.BadInput, match="no sampler named 'hoin'"):
        list(run.steps(2, sampler="hoin"))
    few = []
    for step in run.steps(2, steps=500):
        few.append(step)
        run.stop()
    assert len(few) < 500


def test_without_gradio_one_line_says_what_to_do(
    smoke_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    for name in ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    assert main(["play", str(smoke_run)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "`make play`" in said


@pytest.fixture(scope="module")
def served(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a playground, and the file of what it connected to."""
    place = tmp_path_factory.mktemp("play")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(place)}
    words = [sys.executable, "-c", SERVER, str(place / "connected"), str(smoke_run), "--port", str(port)]
    with open(place / "log", "w") as log:
        process = subprocess.Popen(words, env=env, stderr=log, stdout=log, cwd=place)
    end = time.monotonic() + 120
    while f"playground: http://127.0.0.1:{port}" not in (place / "log").read_text():
        assert process.poll() is None, (place / "log").read_text()
        assert time.monotonic() < end, (place / "log").read_text()
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}/", place / "connected"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert "Traceback" not in (place / "log").read_text(), (place / "log").read_text()
    assert [file.name for file in place.iterdir() if file.name not in ("connected", "log")] == []


@pytest.fixture(scope="module")
def browser(served: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    yield (made := Browser(tmp_path_factory.mktemp("browser")))
    made.close()


@pytest.fixture
def page(served: tuple[str, Path], browser: Browser) -> Iterator[Browser]:
    """The page, when its first images are there."""
    browser.open(served[0])
    browser.errors.clear()  # of the page before, whose streams have ended
    browser.wait(f"document.querySelector('#cost') && {DONE} && !!document.querySelector('#single img')")
    yield browser
    assert browser.errors == [], browser.errors
    assert [one for one in browser.requests if not one.startswith((served[0], "data:"))] == []


def _shown(page: Browser, selector: str) -> np.ndarray:
    source = page.run(f"document.querySelector('{selector}').src")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))), dtype=int)


def _same(page: Browser, selector: str, images: Tensor, columns: int) -> bool:
    """Whether these images are shown there, but for a rounding of the arithmetic of another process."""
    shown, meant = _shown(page, selector), np.asarray(grid_of(images, columns), dtype=int)
    return shown.shape == meant.shape and bool(np.abs(shown - meant).max() <= 2)


def _choose(page: Browser, name: str, value: str) -> None:
    page.press(f"#{name} input")
    option = f"[...document.querySelectorAll('[role=option]')].find(one => one.innerText.trim().endsWith({json.dumps(value)}))"
    page.wait(f"!!{option}")
    page.run(f"{option}.id = 'chosen'")
    page.press("#chosen")
    page.wait(f"document.querySelector('#{name} input').value === {json.dumps(value)}")


def _sampled(page: Browser) -> str:
    """Press the button; the line of costs when it is done, or refused."""
    page.run(
        "document.querySelectorAll('#cost b, #cost .refused').forEach(one => one.remove())"
    )  # what the next line has again
    page.press("#go")
    page.wait(f"document.querySelector('#cost b') && {DONE} || document.querySelector('#cost .refused')")
    time.sleep(0.3)  # for the image beside it, which comes last
    found: str = page.run("document.querySelector('#cost').innerText")
    return found


@needs_gradio
@needs_browser
@pytest.mark.slow
def test_each_control_does_what_it_says(page: Browser, smoke_run: Path) -> None:
    run, asked = Watched(smoke_run), {}
    assert _same(page, "#live img", run.sample(IMAGES), 4)
    for change in ("sampler", "schedule", "steps", "seed", "guidance", "class"):
        before = _shown(page, "#live img")
        match change:
            case "sampler":
                _choose(page, "sampler", "heun")
                asked["sampler"] = "heun"
            case "schedule":
                other = next(name for name in run.schedules() if name != run.experiment.sampling.grid.name)
                _choose(page, "schedule", other)
                asked["schedule"] = other
            case "steps" | "seed":
                page.type(f"#{change} input", "17")
                asked[change] = 17
            case "guidance":
                page.type("#guidance input[type=number]", "2.5")
                asked["guidance"] = 2.5
            case "class":
                _choose(page, "class", "cross")
                asked["classes"] = "cross"
        line = _sampled(page)
        assert line.startswith("step "), line
        assert not np.array_equal(before, _shown(page, "#live img")), change
        assert _same(page, "#live img", run.sample(IMAGES, **asked), 4), change
    assert line.startswith(f"step 17 of 17 · {2 * (2 * 17 - 1)} evaluations of the network for each image · ")


@needs_gradio
@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize(
    ("control", "value", "words"),
    [("steps", "5000", "5000 steps"), ("steps", "0", "steps"), ("steps", "2.5", "steps"), ("steps", "", "number is missing"),
     ("seed", "-1", "seed"), ("seed", "", "a whole number is missing")],
)  # fmt: skip
def test_a_bad_value_is_refused_and_the_images_stay(page: Browser, control: str, value: str, words: str) -> None:
    before = _shown(page, "#live img")
    page.type(f"#{control} input", value)
    line = _sampled(page)
    assert page.run("document.querySelector('#cost .refused') !== null"), line
    assert words in line
    assert np.array_equal(before, _shown(page, "#live img"))


@needs_gradio
@needs_browser
@pytest.mark.slow
def test_images_come_about_live_and_stop_when_told(page: Browser) -> None:
    page.type("#steps input", "1000")
    page.run(
        "window.lines = new Set(); window.pictures = new Set(); window.look = setInterval(() => {"
        " window.lines.add(document.querySelector('#cost').innerText);"
        " window.pictures.add(document.querySelector('#live img')?.src)}, 20)"
    )
    page.press("#go")
    page.wait("window.lines.size > 6 && window.pictures.size > 4")
    page.press("#halt")
    page.wait("/stopped/.test(document.querySelector('#cost').innerText)")
    page.run("clearInterval(window.look)")
    steps = [int(found[1]) for line in page.run("[...window.lines]") if (found := re.match(r"step (\d+) of 1000 ", line))]
    assert steps == sorted(steps)
    assert steps[-1] < 1000


@needs_gradio
@pytest.mark.slow
def test_what_is_stopped_before_its_first_step_leaves_the_page_as_it_is(
    smoke_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gradio as gr

    monkeypatch.setattr(Watched, "steps", lambda *_, **__: iter(()))
    (found,) = Page(Watched(smoke_run)).sample("ddim", "uniform", 10, 1.0, "all in turn", 0)
    assert found == (gr.skip(), "stopped", gr.skip(), gr.skip())


@needs_gradio
@needs_browser
@pytest.mark.slow
def test_one_image_is_seen_on_its_way(page: Browser, smoke_run: Path) -> None:
    frames: list[Tensor] = []
    page.type("#steps input", "12")  # more than the page began with
    _sampled(page)
    lab.load(smoke_run).sample(IMAGES, steps=12, on_step=lambda step, total, images: frames.append(images))
    assert _same(page, "#single img", frames[-1][:1], 1)
    for number, step in ((0, 0), (5, 0), (5, 6), (15, 12)):
        page.type("#image input[type=number]", str(number))
        page.type("#step input[type=number]", str(step))
        end = time.monotonic() + 10
        while not (same := _same(page, "#single img", frames[step][number : number + 1], 1)) and time.monotonic() < end:
            time.sleep(0.1)
        assert same, (number, step)


@needs_gradio
@needs_browser
@pytest.mark.slow
def test_samplers_stand_side_by_side_from_the_same_noise(page: Browser, smoke_run: Path) -> None:
    page.run("[...document.querySelectorAll('[role=tab]')].find(one => one.innerText.includes('Side')).click()")
    run = Watched(smoke_run)
    labels = page.wait("[...document.querySelectorAll('#names label')].map(one => one.innerText.trim())")
    assert labels == run.samplers()
    checked = page.run("[...document.querySelectorAll('#names input')].map(one => one.checked)")
    names = [name for name, one in zip(labels, checked, strict=True) if one]
    assert len(names) > 1
    page.press("#compare")
    page.wait(f"document.querySelectorAll('#rows figure').length === {len(names) + 1}")
    noise: list[Tensor] = []
    run.sample(ROW, on_step=lambda step, total, images: noise.append(images))
    assert _same(page, "#rows figure:nth-of-type(1) img", noise[0], ROW)
    for place, name in enumerate(names, 2):
        assert page.run(f"document.querySelector('#rows figure:nth-of-type({place}) b').innerText") == name
        assert _same(page, f"#rows figure:nth-of-type({place}) img", run.sample(ROW, sampler=name), ROW), name
    page.run("document.querySelectorAll('#names input').forEach(one => one.checked && one.click())")
    page.press("#compare")
    page.wait("/choose at least one/.test(document.querySelector('#rows .refused')?.innerText)")


@needs_gradio
@needs_browser
@pytest.mark.slow
def test_nothing_is_wider_than_a_telephone(page: Browser) -> None:
    page.size(400, 900)
    try:
        page.wait("document.documentElement.scrollWidth <= 400")
        assert page.run("document.querySelector('#live img').getBoundingClientRect().width") > 250
    finally:
        page.size(1280, 1000)


@needs_gradio
@needs_browser
@pytest.mark.slow
def test_the_server_is_for_this_machine_and_speaks_to_no_other(page: Browser, served: tuple[str, Path]) -> None:
    port = int(served[0].rstrip("/").rpartition(":")[2])
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"]
    assert [one for one in listening if one.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]
    spoken = [json.loads(line) for line in served[1].read_text().splitlines()] if served[1].exists() else []
    assert [one for one in spoken if "127.0.0.1" not in one[1] and "localhost" not in one[1]] == []
