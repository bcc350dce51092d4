"""The Python API: its page runs as it stands, does what the command line does, and leaves nothing behind."""

import base64
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, Quick
from PIL import Image
from support.forks import Forks

import ddpm_lab as lab
from ddpm_lab.config.load import dump, load_recipe
from ddpm_lab.config.yaml_reader import parse
from ddpm_lab.diffusion.process import to_uint8
from ddpm_lab.runtime.console import Progress
from ddpm_lab.studies import commands
from registry.errors import BadInput
from registry.objectives import OBJECTIVES
from registry.plugins import REGISTRIES
from registry.samplers import SAMPLERS

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.S)
README = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
# What makes the page small: an experiment of seconds, on drawn shapes. What is replaced stands there.
FEW = ("classes=true", "evaluate.n=16", "evaluate.every=null", "evaluate.metrics=[]")
SMALL = {
    '"cosine_l1_classes"': ", ".join(f'"{word}"' for word in ("smoke", *FEW)), "images=20_000": "images=64",
    '"cosine_l2"': '"smoke"', '"cosine_l2 loss=huber"': '"smoke sampling.steps=2"', "pairs=10": "pairs=2",
    '"train.images=50000"': ", ".join(f'"{word}"' for word in ("train.images=64", *FEW)),
    '"Bag"': '"disc"', "28": "16", "2_000": "16",
}  # fmt: skip


@pytest.fixture
def run(smoke_run: Path) -> lab.Run:
    return lab.load(smoke_run)


def _small(block: str) -> str:
    for word, small in SMALL.items():
        block = block.replace(word, small)
    return block


def _children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def test_the_page_runs_and_leaves_its_runs_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forks: Forks
) -> None:
    assert all(word in "".join(BLOCKS) for word in SMALL)
    (tmp_path / "here").mkdir()
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    monkeypatch.setattr(commands, "subprocess", SimpleNamespace(Popen=forks.in_place_of_python))
    threads, children, page = threading.enumerate(), _children(), dict[str, Any]()
    for number, block in enumerate(BLOCKS):
        exec(compile(_small(block), f"docs/python.md, block {number}", "exec"), page)
        if number == 0:
            meant = load_recipe("smoke", [*FEW, "loss=huber", "train.images=64"]).experiment
            assert page["run"].folder.experiment.read_text() == dump(meant)
            assert page["run"].result.images == 64
            assert os.listdir() == ["results"]
            assert sorted(os.listdir("results")) == ["latest", "smoke"]
        elif number == 2:
            assert Image.open(io.BytesIO(_png(page["run"]))).size[0] > 100
    for block in README:
        exec(compile(_small(block), "README.md", "exec"), page)
    assert {*threading.enumerate()} <= {*threads}
    assert {*_children()} <= {*children}
    assert sorted(os.listdir()) == ["live.png", "results"]
    assert sorted(os.listdir("results")) == ["latest", "smoke", "verdicts", "verdicts.jsonl"]
    assert os.listdir(tmp_path / "scratch") == []
    assert page["bags"].shape == (8, 1, 16, 16)
    assert page["x0"].shape == page["eps"].shape == page["x"].shape
    assert page["verdict"].outcome in {"better", "worse", "no difference", "undecided"}
    assert len(page["verdict"].pairs) == 2
    assert "of A" in repr(page["verdict"])
    assert page["ranking"].rows[0].value <= page["ranking"].rows[1].value


def _png(run: lab.Run) -> bytes:
    (found,) = re.findall(r"src='data:image/png;base64,([^']*)'", run._repr_html_())
    return base64.b64decode(found)


def test_a_run_that_tracks_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The uploader of W&B is one; offline, as without a login."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    threads, children = threading.enumerate(), _children()
    lab.train("smoke", images=32, track="wandb", results=tmp_path / "r", evaluate={"n": 4, "every": None, "metrics": []})
    assert {*threading.enumerate()} <= {*threads}
    assert {*_children()} <= {*children}
    assert os.listdir(tmp_path) == ["r"]


def test_images_are_those_of_the_command_line(run: lab.Run, smoke_run: Path, tmp_path: Path, quick: Quick) -> None:
    words = ["sampling.sampler=heun", "sampling.grid=karras", "--steps", "4", "--seed", "7", "--guidance", "2"]
    assert quick("sample", smoke_run, "-n", "6", *words, "--out", tmp_path / "x.npz").returncode == 0
    theirs = torch.from_numpy(np.load(tmp_path / "x.npz")["arr_0"]).permute(0, 3, 1, 2)
    assert torch.equal(run.sample(6, sampler="heun", schedule="karras", steps=4, seed=7, guidance=2), theirs)
    assert torch.equal(run.sample(6, "sampling.sampler=heun", "sampling.grid=karras", steps=4, seed=7, guidance=2.0), theirs)
    assert not torch.equal(run.sample(6, sampler="heun", schedule="karras", steps=4, seed=8, guidance=2), theirs)


def test_classes_come_in_turn(run: lab.Run) -> None:
    assert run.shape.class_names
    first, last = (run.sample(4, "sampling.batch=1", classes=number, steps=2) for number in (0, 2))
    mixed = run.sample(4, "sampling.batch=1", classes=[2, run.shape.class_names[0].upper()], steps=2)
    assert torch.equal(mixed[::2], last[::2])
    assert torch.equal(mixed[1::2], first[1::2])
    assert not torch.equal(mixed, last)


def _samplers() -> list[str]:
    network = OBJECTIVES.part("denoising").traits.network
    return [part.name for part in SAMPLERS if part.traits.takes & network]


@pytest.mark.parametrize("sampler", _samplers())
def test_each_step_of_each_sampler_is_seen_once(run: lab.Run, sampler: str) -> None:
    seen: list[tuple[int, int, torch.Tensor]] = []
    images = run.sample(5, "sampling.batch=3", sampler=sampler, steps=4, on_step=lambda *told: seen.append(told))
    assert torch.equal(images, run.sample(5, "sampling.batch=3", sampler=sampler, steps=4))
    assert [step for step, _, _ in seen] == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert {total for _, total, _ in seen} == {8}
    assert [len(one) for _, _, one in seen] == [3] * 5 + [2] * 4
    assert torch.equal(torch.cat([seen[4][2], seen[8][2]]), images)
    assert not any(one.is_inference() for _, _, one in seen)


def test_the_steps_are_the_frames_of_the_denoising_picture(run: lab.Run) -> None:
    """Of ddim, which shows the network each step once."""
    seen: list[torch.Tensor] = []
    run.sample(4, sampler="ddim", steps=6, on_step=lambda step, total, images: seen.append(images))
    way = run._sampling("sample", (), "ddim", 6, None, None, None, None)
    sampler = run.sampler(way)
    assert torch.equal(torch.stack(seen), sampler.trajectory(4, way.seed, sampler.labels(4), 7))


def test_with_heun_the_steps_are_those_of_the_solution_and_not_of_its_trials(run: lab.Run) -> None:
    """Fewer steps of the same schedule end where more of them pass: at each of its levels."""
    seen: list[torch.Tensor] = []
    shown: list[torch.Tensor] = []
    way = run._sampling("sample", (), "heun", 4, None, None, None, None)
    sampler = run.sampler(way)
    sampler.unrounded(range(2), 0, sampler.labels(2), lambda x, level: shown.append(x))
    run.sample(2, sampler="heun", steps=4, on_step=lambda step, total, images: seen.append(images))
    # x_0; trial of x_1, x_1; trial of x_2, x_2; trial of x_3, x_3
    assert len(shown) == 7
    assert all(torch.equal(to_uint8(shown[place]), seen[step]) for step, place in enumerate((0, 2, 4, 6)))
    assert not torch.equal(shown[1], shown[2])


MISTAKES: dict[str, tuple[Callable[[lab.Run], object], str]] = {
    "keyword": (lambda run: run.sample(2, stepz=3), "sample(): stepz: no such key; did you mean 'steps'?"),
    "part": (lambda run: run.sample(2, sampler="dim"), "no sampler named 'dim'; did you mean 'ddim'?"),
    "option": (lambda run: run.sample(2, sampler={"name": "ddim", "etta": 1}), "no option 'etta'; did you mean 'eta'?"),
    "no part": (lambda run: run.sample(2, schedule=3), "expected the name of a grid"),
    "steps": (lambda run: run.sample(2, steps=3000), "3000 steps do not fit into timesteps = 1000"),
    "type": (lambda run: run.sample(2, steps="5"), "sampling.steps: input should be a valid integer, got '5'"),
    "count": (lambda run: run.sample(0), "sample(): n: 0 is not a whole number from 1 on"),
    "class": (lambda run: run.sample(2, classes=[1, "Discc"]), "no class named 'Discc'; did you mean 'disc'?"),
    "number of a class": (lambda run: run.sample(2, classes=[0, 3]), "class 3 is not one of this run's, 0 to 2"),
    "no class": (lambda run: run.sample(2, classes=[]), "[] is not a class or a list of classes"),
    "weights": (lambda run: run.sample(2, weights="ema_2"), "has no 'ema_2'; did you mean 'ema'?"),
    "guidance": (lambda run: run.sample(2, guidance=-1), "guidance: input should be greater than or equal to 0, got -1"),
    "override": (lambda run: run.sample(2, "train.batch=3"), "only the sampling of a trained run can be changed"),
    "no override": (lambda run: run.sample(2, {"steps": 3}), "{'steps': 3} is not a valid override"),
    "n to evaluate": (lambda run: run.evaluate(1), "evaluate(): n: 1 is not a whole number from 2 on"),
    "features": (
        lambda run: run.evaluate(8, features="fashion_cn"),
        "no features named 'fashion_cn'; did you mean",
    ),
    "settings": (lambda run: lab.train("smoke", los="l1"), "train(): los: no such key; did you mean 'loss'?"),
    "images": (lambda run: lab.train("smoke", imags=5), "train(): imags: no such key; did you mean 'images'?"),
    "train": (lambda run: lab.train("smoke", train=5, images=3), "train(): train: 5 is not a mapping of settings"),
    "experiment": (lambda run: lab.train("smok"), "no experiment named 'smok' in experiments/; did you mean 'smoke'?"),
    "device": (lambda run: lab.load(run.folder.path, "cudaa"), "device: no device 'cudaa'"),
    "folder": (lambda run: lab.load("nowhere"), "no run at 'nowhere'"),
    "category": (lambda run: lab.parts("sampler"), "no category named 'sampler'; did you mean 'samplers'?"),
    "nothing to compare": (lambda run: lab.compare(), "compare(): name runs"),
    "metric": (lambda run: lab.compare(run, metrc="KID"), "compare(): metrc: no such key; did you mean 'metric'?"),
    "pairs": (lambda run: lab.verdict("smoke", "smoke loss=l1", pairs=1), "pairs: 1 is not a whole number from 2 on"),
    "margin": (lambda run: lab.verdict("smoke", "smoke loss=l1", margin=-1), "margin: -1 is not a number from 0 to 10"),
    "metric of a verdict": (lambda run: lab.verdict("smoke", "smoke loss=l1", metric="FIDD"), "metric: there is no metric"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_before_anything_is_computed(
    mistake: str, run: lab.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.nn.Module, "__call__", lambda *_: pytest.fail("a network was asked"))
    call, text = MISTAKES[mistake]
    with pytest.raises(BadInput) as error:
        call(run)
    assert text in str(error.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "yaml",
    ["los: l1", "loss: hubr", "loss: {name: huber, delt: 1}", "train: {batchs: 3}", "sampling: {steps: 2.5}", "seed: -1"],
)
def test_a_wrong_setting_is_told_in_the_words_of_yaml(yaml: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"extends: smoke\n{yaml}\n")
    with pytest.raises(BadInput) as theirs:
        load_recipe(str(tmp_path / "x.yaml"))
    with pytest.raises(BadInput) as ours:
        lab.train("smoke", **parse(yaml), results=tmp_path)
    if "los:" in yaml:  # where the keywords of the call are known too
        assert str(ours.value).split("known")[0] == str(theirs.value).replace(f"{tmp_path}/x.yaml", "train()").split("known")[0]
    else:
        assert str(ours.value) == str(theirs.value).replace(f"{tmp_path}/x.yaml", "train()")


def test_importing_is_quick_and_every_name_is_there() -> None:
    code = "import sys, ddpm_lab; print(ddpm_lab.__version__, len({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    version, heavy = done.stdout.split()
    assert heavy == "0"
    assert version == re.findall(r"^version = (.*)$", (ROOT / "setup.cfg").read_text(), re.M)[0]
    assert all(callable(getattr(lab, name)) for name in lab.__all__)
    assert set(lab.__all__) <= set(dir(lab))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = lab.trian


def test_what_is_shown(run: lab.Run, tmp_path: Path, quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch(r"<Run smoke/\S+: 3,200 images, FID \d+\.\d+ \(fashion_cnn, .*, N = 128\)>", repr(run))
    last = max(run.folder.samples.glob("*.png"))
    assert _png(run) == last.read_bytes()
    assert "held_out_loss" in run._repr_html_()
    assert quick("export", run.folder.path, tmp_path / "model").returncode == 0
    exported = lab.load(tmp_path / "model")
    assert repr(exported) == repr(run).replace(f"smoke/{run.folder.id}", "model")
    assert Image.open(io.BytesIO(_png(exported))).mode == "RGB"
    assert torch.equal(exported.sample(2, steps=2), run.sample(2, steps=2))
    found = lab.parts("samplers")
    assert [part.name for part in found] == [part.name for part in REGISTRIES["samplers"]]
    assert found._repr_html_().startswith("<pre>")
    assert "eta: float = 0.0" in repr(found)


def test_a_network_of_ones_own(run: lab.Run) -> None:
    before = run.sample(2, steps=2)
    with torch.no_grad():
        for parameter in run.network.parameters():
            parameter.zero_()
    assert torch.equal(run.sample(2, steps=2), before)
    assert not run.network.training


def test_values_are_kept_where_compare_finds_them(tmp_path: Path, smoke_run: Path, quick: Quick) -> None:
    shutil.copytree(smoke_run, tmp_path / "smoke" / smoke_run.name)
    run = lab.load(tmp_path / "smoke" / smoke_run.name)
    values = run.evaluate(24, steps=2, features="fashion_cnn")
    assert values[0].n == 24
    assert values[0].generation["steps"] == 2
    ranking = lab.compare(run, n=24)
    assert ranking.rows[0].value == values[0].value
    # The command line says the same, and its ranking has the same lines.
    told = quick("evaluate", run.folder.path, "-n", "24", "--steps", "2")
    assert told.stdout.splitlines() == repr(values).splitlines()
    assert quick("compare", run.folder.path, "-n", "24").stdout.splitlines() == repr(ranking).splitlines()


def test_a_notebook_has_a_bar_and_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    class OutStream(io.StringIO):
        """As ipykernel's: no terminal, and carriage returns work."""

        __module__ = "ipykernel.iostream"

    threads = threading.enumerate()
    for stream, returns in ((OutStream(), True), (io.StringIO(), False)):
        with contextlib.redirect_stderr(stream), Progress("sampling", 100) as bar:
            for _ in range(10):
                bar.advance(10)
            assert {*threading.enumerate()} <= {*threads}
        assert ("\r" in stream.getvalue()) is returns
        assert "100/100 images" in stream.getvalue()
