"""Sweeps at W&B: the real client's `wandb sweep` and `wandb agent`, and a server on this machine that speaks with them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from support.forks import Forks
from support.wandb_server import WandbServer

from ddpm_lab.config.load import load_recipe
from ddpm_lab.storage.run_folder import RunFolder

FEW = ["train.images=64", "evaluate.n=8", "evaluate.n_during=4", "evaluate.every=32", "train.samples_every=64", "track=wandb"]
WANDB = [sys.executable, "-m", "wandb"]


class Desk:
    """A folder with the experiments in it, and a user who is logged in."""

    def __init__(self, folder: Path, server: WandbServer) -> None:
        self.folder, self.server, self.programs = folder, server, folder / "programs"
        (folder / "experiments").symlink_to(ROOT / "experiments", target_is_directory=True)
        path = os.pathsep.join((str(self.programs), str(Path(sys.executable).parent), os.environ["PATH"]))
        self.env = os.environ | server.env | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def sweep(self, few: list[str], **content: object) -> str:
        """What `wandb sweep` makes of a file with that content."""
        command = ["ddpm-lab", "run", "smoke", *few, "${args_no_hyphens}"]
        about = {"program": "ddpm_lab", "command": command, "method": "grid", **content}
        (self.folder / "sweep.yaml").write_text(yaml.safe_dump(about))
        done = subprocess.run(
            [*WANDB, "sweep", "--project", "garments", "sweep.yaml"], cwd=self.folder, env=self.env,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        found = re.search(r"wandb agent (\S+)", done.stdout + done.stderr)
        assert found, done.stderr
        return found[1]

    def agent(self, sweep: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*WANDB, "agent", sweep], cwd=self.folder, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def runs(self) -> list[RunFolder]:
        return [RunFolder(path) for path in sorted(self.folder.glob("results/smoke/*-*"))]


@pytest.fixture
def desk(wandb_server: WandbServer, tmp_path: Path) -> Desk:
    return Desk(tmp_path, wandb_server)


def _until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.05)


def test_two_agents_share_a_grid_and_a_bad_combination_costs_one_line(desk: Desk, forks: Forks) -> None:
    forks.program(desk.programs)
    rate = {"parameters": {"rate": {"parameters": {"peak": {"values": ["1e-3", -1.0]}}}}}
    sweep = desk.sweep(FEW, parameters={"loss": {"values": ["l1", "l2"]}, "train": rate, "classes": {"value": True}})
    agents = [desk.agent(sweep) for _ in range(2)]
    said = [agent.communicate(timeout=240)[0] for agent in agents]
    (shared,) = desk.server.sweeps.values()
    assert len(shared.given) == 4
    assert set(shared.given.values()) == set(desk.server.agents), "both had some of the trials"
    refusals = [line for text in said for line in text.splitlines() if line.startswith("ddpm-lab: error: ")]
    assert len(refusals) == 2, said
    assert all("train.rate.peak" in line and "-1" in line for line in refusals)

    finished = {run.id: run for run in desk.server.runs.values() if run.state == "finished"}
    assert len(finished) == len(desk.runs()) == 2
    found = set()
    for folder in desk.runs():
        run = finished[folder.id.split("-", 2)[2]]  # the agent's run is the lab's run
        experiment = load_recipe(str(folder.path)).experiment
        found.add((experiment.loss.name, experiment.train.rate.peak, experiment.classes))
        assert run.sweep == shared.id
        assert [row["_step"] for row in run.history] == list(range(len(folder.read_metrics())))
        assert run.summary["FID/fashion_cnn"] == json.loads(folder.result.read_text())["metrics"][0]["value"]
        # W&B keeps the values of the sweep as they stood in its file; beside them is the whole experiment.
        assert run.config["backbone"]["name"] == "patch_unet"
    assert found == {("l1", 1e-3, True), ("l2", 1e-3, True)}
    assert not desk.server.unknown


@pytest.mark.slow
def test_a_preempted_trial_is_handed_out_again_and_goes_on(desk: Desk) -> None:
    few = [*FEW[1:], "train.images=6400", "train.checkpoint_every=320"]
    agent = desk.agent(desk.sweep(few, parameters={"loss": {"values": ["l1"]}}))
    _until(lambda: any(list(folder.checkpoints.glob("*.sha256")) for folder in desk.runs()))
    (child,) = _children(agent.pid)
    os.kill(child, signal.SIGTERM)
    said = agent.communicate(timeout=300)[0]
    (folder,) = desk.runs()
    (run,) = desk.server.runs.values()
    assert folder.finished, said
    assert "resuming" in said
    assert "interrupted after" in said
    assert run.state == "finished"
    assert [row["_step"] for row in run.history] == list(range(len(folder.read_metrics())))


@pytest.mark.slow
def test_a_trial_that_hyperband_stops_is_not_handed_out_again(desk: Desk) -> None:
    few = [*FEW[1:], "train.images=64000"]
    agent = desk.agent(desk.sweep(few, parameters={"loss": {"values": ["l1"]}}))
    _until(lambda: any(len(folder.read_metrics()) > 3 for folder in desk.runs()))
    (sweep,) = desk.server.sweeps.values()
    (run_id,) = sweep.given
    sweep.stopping.add(run_id)
    said = agent.communicate(timeout=300)[0]
    assert "interrupted after" in said
    assert "resuming" not in said
    assert desk.server.runs[run_id].state == "failed"  # W&B itself would call it stopped


@pytest.mark.parametrize("file", sorted((ROOT / "experiments/sweeps").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_sweeps_of_the_house_are_what_wandb_takes_and_their_experiments_are_there(file: Path) -> None:
    about = yaml.safe_load(file.read_text())
    assert about["command"][:2] == ["ddpm-lab", "run"]
    assert load_recipe(about["command"][2]).name == about["command"][2]
    from wandb.sdk.launch.sweeps.utils import create_sweep_command

    assert create_sweep_command(about["command"]) == about["command"]


def _children(pid: int) -> list[int]:
    """The runs below an agent."""
    text = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    below = [line.split(None, 2) for line in text.splitlines()]
    return [int(child) for child, parent, args in below if int(parent) == pid and "ddpm-lab" in args]
