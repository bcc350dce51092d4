"""Several processes: the same batches, losses, images and metrics as one, and no run lost with one of them."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Quick
from safetensors.numpy import load_file
from support.forks import Forks, Process

# SGD, because a normalised update (AdamW, Muon) blows rounding up to its own size where a gradient is tiny.
FEW = [
    "train.optimizer=SGD", "train.rate.peak=0.02", "train.images=320", "train.batch=32", "train.precision=fp32",
    "evaluate.every=160", "evaluate.n=40", "evaluate.n_during=24", "sampling.batch=8", "sampling.steps=4",
]  # fmt: skip
Two = Callable[..., "subprocess.CompletedProcess[str]"]


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


@pytest.fixture
def launched(forks: Forks, tmp_path: Path) -> Two:
    """The command in two processes that torchrun starts."""
    launch = [*TORCHRUN, "--no-python", str(forks.program(tmp_path / "programs"))]

    def call(*words: str | Path) -> "subprocess.CompletedProcess[str]":
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [*launch, *map(str, words)]
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)

    return call


@pytest.fixture
def two(forks: Forks) -> Two:
    """The command in two processes, with what torchrun would tell them."""

    def call(*words: str | Path) -> "subprocess.CompletedProcess[str]":
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        started = [forks.start(*words, env=shared | {"RANK": rank, "LOCAL_RANK": rank}) for rank in "01"]
        with ThreadPoolExecutor() as pool:
            said = list(pool.map(Process.communicate, started))
        status = next((process.returncode for process in started if process.returncode), 0)
        out, err = ("".join(each) for each in zip(*said, strict=True))
        return subprocess.CompletedProcess([*words], status, out, err)

    return call


def _rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _result(run: Path) -> dict[str, float]:
    return {line["metric"]: line["value"] for line in json.loads((run / "result.json").read_text())["metrics"]}


LEARNED = ["levels={name: importance, bins: 4, history: 2}", "weighting=uncertainty", "variance=learned_range"]


@pytest.mark.parametrize(
    "options", [[], pytest.param(["classes=true", "train.accumulate=2", *LEARNED], marks=pytest.mark.slow)]
)
def test_two_processes_train_and_measure_as_one(quick: Quick, launched: Two, tmp_path: Path, options: list[str]) -> None:
    one_process = quick("run", "smoke", *FEW, *options, "--results", tmp_path / "one")
    assert one_process.returncode == 0, one_process.stderr
    both = launched("run", "smoke", *FEW, *options, "--results", tmp_path / "two")
    assert both.returncode == 0, both.stderr
    assert both.stderr.count("report: ") == 1
    assert len(list((tmp_path / "two/smoke").iterdir())) == 1
    a, b = (tmp_path / name / "latest" for name in ("one", "two"))
    assert [row["images"] for row in _rows(a)] == [row["images"] for row in _rows(b)]
    for here, there in zip(_rows(a), _rows(b), strict=True):
        for key in {"loss", "gradient_norm", "learning_rate"} & set(here):
            assert there[key] == pytest.approx(here[key], rel=1e-4), (key, here["images"])
        if "FID/fashion_cnn" in here:
            assert there["FID/fashion_cnn"] == pytest.approx(here["FID/fashion_cnn"], rel=1e-3)
    weights, others = load_file(a / "ema.safetensors"), load_file(b / "ema.safetensors")
    assert max(float(np.abs(weights[name] - others[name]).max()) for name in weights) < 1e-5
    one, other = _result(a), _result(b)
    assert {"FID", "KID", "IS", "recall", "memorisation", "held_out_loss"} <= set(one)
    assert ("class_FID" in one) == ("classes=true" in options)
    for metric, value in one.items():
        assert other[metric] == pytest.approx(value, rel=1e-2, abs=1e-2), metric
    assert other["FID"] == pytest.approx(one["FID"], rel=1e-3)


# One file, outside of the repository: a second noise level, a derivative, random numbers of its own, a teacher.
OBJECTIVE = """
import torch

from registry.objectives import OBJECTIVES, ObjectiveTraits
from registry.objectives.straight import tau, velocity


def _teacher(options, images):
    return lambda seen, batch: 0.5


@OBJECTIVES.register(
    "mine", ObjectiveTraits(network=frozenset({"flow_map"}), second_level=True, teacher=_teacher, weighting=False)
)
def mine(learner, batch):
    "Half MeanFlow, half distillation; no source."
    to = batch.level * learner.uniform("second level")

    def straight(level):
        return (1 - tau(learner, level)) * batch.x0 + tau(learner, level) * batch.eps

    def mean(level):
        return velocity(learner, learner.frozen, straight(level), level, batch.y, to)

    slope = learner.derivative(mean, batch.level) / learner.derivative(lambda level: tau(learner, level), batch.level)
    gap = tau(learner, batch.level) - tau(learner, to)
    seen = velocity(learner, learner.teacher, straight(batch.level), batch.level, batch.y, to)
    target = (batch.eps - batch.x0 - gap * slope + seen) / 2
    return learner.distance(velocity(learner, learner.predict, straight(batch.level), batch.level, batch.y, to), target)
"""


def test_an_objective_of_one_file_and_pairs_of_the_whole_batch_are_the_same_on_two_processes(
    quick: Quick, two: Two, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(OBJECTIVE)
    mine = [
        f"plugins=[{tmp_path / 'mine.py'}]", "objective=mine", "coupling=optimal_transport", "classes=true", "schedule=flow",
        "target=velocity", "sampling.sampler=flow_map", "train.accumulate=2", "evaluate.every=null", "train.images=160",
    ]  # fmt: skip
    for name, command in (("one", quick), ("two", two)):
        done = command("run", "smoke", *FEW, *mine, "--results", tmp_path / name)
        assert done.returncode == 0, done.stderr
    one, both = (_rows(tmp_path / name / "latest") for name in ("one", "two"))
    losses = [[row["loss"] for row in rows if "loss" in row] for rows in (one, both)]
    assert len(losses[0]) == 5
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    weights, others = (load_file(tmp_path / name / "latest/raw.safetensors") for name in ("one", "two"))
    assert max(float(np.abs(weights[name] - others[name]).max()) for name in weights) < 1e-5
    assert "embed_noise.second.layers.0.weight" in weights


def test_a_curve_is_the_same_on_two_processes(quick: Quick, two: Two, smoke_run: Path, tmp_path: Path) -> None:
    found = []
    for name, command in (("one", quick), ("two", two)):
        shutil.copytree(smoke_run, tmp_path / name)
        words = ("--curve", "nfe", "--samplers", "ddim", "--at", "2,4", "-n", "120", "sampling.batch=16")
        done = command("evaluate", tmp_path / name, *words)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("FID by fashion_cnn") == 1
        rows = json.loads((tmp_path / name / "curve-nfe.json").read_text())
        found.append([(row["evaluations"], row["metrics"][0]["value"]) for row in rows])
    one, both = found
    assert [evaluations for evaluations, _ in both] == [2, 4]
    assert [value for _, value in both] == pytest.approx([value for _, value in one], rel=1e-3)


def test_the_same_images_and_the_same_distance_on_two_processes(
    quick: Quick, two: Two, smoke_run: Path, tmp_path: Path
) -> None:
    for name, call in (("one", quick), ("two", two)):
        done = call("sample", smoke_run, "-n", "300", "--steps", "2", "--out", tmp_path / f"{name}.npz")
        assert done.returncode == 0, done.stderr
        done = call("evaluate", tmp_path / f"{name}.npz", "--dataset", "shapes")
        assert done.returncode == 0, done.stderr
    one, other = (np.load(tmp_path / f"{name}.npz") for name in ("one", "two"))
    assert np.array_equal(one["arr_0"], other["arr_0"])
    assert np.array_equal(one["arr_1"], other["arr_1"])
    values = [
        [line["value"] for line in json.loads((tmp_path / f"{name}.evaluation.json").read_text())] for name in ("one", "two")
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6, abs=1e-9)


def test_a_batch_that_does_not_divide_is_refused(two: Two, tmp_path: Path) -> None:
    done = two("run", "smoke", "train.batch=33", "--results", tmp_path / "results")
    assert done.returncode != 0
    assert "train.batch: 33 images do not divide over 2 processes" in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_process_that_dies_is_said_and_torchrun_resumes_the_run(tmp_path: Path, launched: Two) -> None:
    words = ["run", "smoke", *FEW, "train.images=3200", "train.checkpoint_every=320", "evaluate.every=null", "--results"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, "--max-restarts=1", "-m", "ddpm_lab", *words, str(tmp_path / "killed")]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "killed").glob("smoke/*/checkpoints/*.sha256")):
        assert process.poll() is None
        time.sleep(0.05)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "another process of this run is gone; the last good checkpoint is of" in said
    assert "resuming" in said
    assert len(list((tmp_path / "killed/smoke").iterdir())) == 1
    assert launched(*words, tmp_path / "whole").returncode == 0
    killed, whole = (load_file(tmp_path / name / "latest/ema.safetensors") for name in ("killed", "whole"))
    assert max(float(np.abs(killed[name] - whole[name]).max()) for name in whole) < 1e-4
