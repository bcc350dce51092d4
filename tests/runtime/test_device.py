"""What `auto` comes to, and what a run does with it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Lab, Quick

from ddpm_lab.runtime import host, live_runs
from ddpm_lab.runtime.device import pick_compile, pick_memory_format
from ddpm_lab.runtime.host import pick_threads

CPU = torch.device("cpu")


def test_auto_on_a_cpu() -> None:
    assert pick_memory_format("auto", CPU) == torch.contiguous_format
    assert pick_memory_format("channels_last", CPU) == torch.channels_last
    assert pick_compile("auto", CPU) is False
    assert pick_compile(True, CPU) is True


def test_auto_threads_stay_within_what_a_container_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_runs, "others", lambda: 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(host, "_allowed_cores", lambda: 8)
    assert pick_threads("auto") == 3
    monkeypatch.setattr(host, "_allowed_cores", lambda: 2)
    assert pick_threads("auto") == 2
    assert pick_threads(4) == 4


FREED = """
import resource
import sys
import torch
from ddpm_lab.runtime.host import settle

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20

if sys.argv[1] == "settled":
    settle(torch.device("cpu"), 1)
before = resident()
torch.ones(2**24)
print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc that tells a process's memory")
@pytest.mark.parametrize(("state", "kept"), [("settled", True), ("untouched", False)])
def test_memory_that_was_freed_stays_with_the_process(state: str, kept: bool) -> None:
    """64 MiB, in a process of its own: where an allocation has failed before, glibc serves that thread from another arena."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.check_output([sys.executable, "-c", FREED, state], cwd=ROOT, env=env, text=True)
    assert (float(said) > 60) is kept


def test_what_is_asked_for_reaches_the_network_and_the_report(lab: Lab, tmp_path: object) -> None:
    words = ["train.memory_format=channels_last", "train.threads=1", "train.precision=bf16", "train.images=64", "evaluate.n=8"]
    done = lab("run", "smoke", *words, "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    environment = json.loads((tmp_path / "latest/environment.json").read_text())  # type: ignore[operator]
    assert environment["memory_format"] == "channels_last"
    assert environment["threads"] == 1
    assert environment["precision"] == "bf16"
    assert environment["compile"] is False


def test_check_says_how_the_machine_computes(quick: Quick) -> None:
    done = quick("check", "smoke", "train.memory_format=channels_last")
    assert done.returncode == 0, done.stderr
    assert "channels_last" in done.stdout


@pytest.mark.slow
def test_a_compiled_run_learns_what_the_other_learns(lab: Lab, tmp_path: object) -> None:
    losses = {}
    for compiled in ("false", "true"):
        results = tmp_path / compiled  # type: ignore[operator]
        done = lab("run", "smoke", f"train.compile={compiled}", "train.precision=fp32", "--results", results, timeout=900)
        assert done.returncode == 0, done.stderr
        rows = map(json.loads, (results / "latest/metrics.jsonl").read_text().splitlines())
        losses[compiled] = [row["loss"] for row in rows if "loss" in row]
    assert losses["true"] == pytest.approx(losses["false"], rel=1e-3)
