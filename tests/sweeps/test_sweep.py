"""A sweep without an account: the same file, a table, a plot, and nothing lost when it is interrupted."""

import csv
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from conftest import ROOT, Lab, Quick
from PIL import Image
from scipy import stats
from support.forks import Forks

from ddpm_lab.cli.main import main
from ddpm_lab.config.load import load_recipe
from ddpm_lab.sweeps import commands
from ddpm_lab.sweeps.results import Row, plot, table
from ddpm_lab.sweeps.sweep import Sweep
from ddpm_lab.sweeps.ties import tied_with_best
from ddpm_lab.sweeps.wandb_file import Metric, Parameter, SweepFile, dotted, read
from registry.errors import BadInput

FEW = ["train.images=64", "evaluate.n=8", "evaluate.n_during=4", "evaluate.every=32", "train.samples_every=64", "track=none"]
METRIC = {"name": "FID/fashion_cnn"}


def _file(folder: Path, **content: object) -> Path:
    command = ["ddpm-lab", "run", f"{ROOT}/experiments/smoke.yaml", "${args_no_hyphens}"]
    about = {
        "method": "grid",
        "metric": METRIC,
        "command": command,
        "parameters": {"loss": {"values": ["l1", "l2"]}},
        **content,
    }
    (file := folder / "few.yaml").write_text(yaml.safe_dump({key: value for key, value in about.items() if value is not None}))
    return file


def _table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "results/sweeps/few/table.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_grid_with_a_bad_combination_ends_in_a_table_and_a_plot(
    tmp_path: Path, forks: Forks, quick: Quick, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "subprocess", SimpleNamespace(Popen=forks.in_place_of_python, DEVNULL=subprocess.DEVNULL))
    monkeypatch.chdir(tmp_path)
    rate = {"parameters": {"rate": {"parameters": {"peak": {"values": ["1e-3", -1.0]}}}}}
    file = _file(tmp_path, parameters={"loss": {"values": ["l1", "l2"]}, "train": rate})
    words = ["sweep", str(file), *FEW, "--confirm", "1", "--seeds", "1"]
    assert main(words) == 0
    printed, said = capfd.readouterr()
    assert "trial 1 of 4: loss=l1 train.rate.peak=0.001" in said
    refusals = [line for line in said.splitlines() if "error: " in line]
    assert len(refusals) == 2
    assert all("train.rate.peak" in line for line in refusals)
    rows = _table(tmp_path)
    assert [row["state"] for row in rows] == ["finished", "finished", "failed (2)", "failed (2)"]
    assert float(rows[0]["FID/fashion_cnn"]) <= float(rows[1]["FID/fashion_cnn"]), "the best first"
    for row in rows[:2]:
        result = json.loads((tmp_path / row["run"] / "result.json").read_text())
        assert float(row["FID/fashion_cnn"]) == pytest.approx(result["metrics"][0]["value"], rel=1e-3)
        assert load_recipe(str(tmp_path / row["run"])).experiment.loss.name == row["loss"]
        assert row["run"] in printed
    with Image.open(tmp_path / "results/sweeps/few/plot.png") as plot:
        assert min(plot.size) > 300

    (fresh,) = tmp_path.glob("results/smoke/*.seed1")
    best, again = (load_recipe(str(path)).experiment for path in (tmp_path / rows[0]["run"], fresh))
    assert (again.loss, again.seed, again.sampling.seed) == (best.loss, 1, 1)
    value = json.loads((fresh / "result.json").read_text())["metrics"][0]["value"]
    trials, confirmed = printed.split("\n\n")
    assert confirmed.splitlines()[1].split()[:4] == ["1", rows[0]["trial"], rows[0]["FID/fashion_cnn"], f"{value:.4g}"]

    done = quick(*words, cwd=tmp_path)
    assert done.stdout.splitlines()[:5] == trials.splitlines()[:5], "nothing is left to do, and nothing is done again"
    assert done.stdout.split("\n\n")[1] == confirmed
    assert len(list(tmp_path.glob("results/smoke/*-few-*"))) == 3
    other = quick("sweep", file, *FEW, "seed=1", cwd=tmp_path)
    assert other.returncode == 2
    assert "was started with another few.yaml, other overrides or another budget" in other.stderr


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL", "SIGKILL of all"])
def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path: Path, how: str) -> None:
    file = _file(tmp_path, method="random", run_cap=3, parameters={"train.rate.peak": {"min": 1e-4, "max": 1e-3}})
    few = ["train.images=3200", "train.checkpoint_every=160", *FEW[1:], "evaluate.every=null"]
    command = [sys.executable, "-m", "ddpm_lab", "sweep", str(file), *few]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("results/smoke/*-few-1/checkpoints/*.sha256")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if how == "SIGKILL of all":
        os.killpg(first.pid, signal.SIGKILL)  # the machine goes down
    else:
        first.send_signal(signal.Signals[how])
    _, said = first.communicate(timeout=60)  # until its trial has ended too
    assert first.returncode == (143 if how == "SIGTERM" else -9)
    assert ("everything is saved" in said) == (how != "SIGKILL of all")
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stderr
    assert len(list(tmp_path.glob("results/smoke/*-*"))) == 3
    assert [row["state"] for row in _table(tmp_path)] == ["finished"] * 3
    assert len({row["train.rate.peak"] for row in _table(tmp_path)}) == 3


@pytest.mark.slow
def test_a_search_with_hyperband_stops_the_poor_trials(tmp_path: Path, lab: Lab) -> None:
    early = {"type": "hyperband", "min_iter": 1, "eta": 2}
    peak = {"distribution": "log_uniform_values", "min": 1e-6, "max": 3e-3}
    file = _file(tmp_path, method="bayes", run_cap=5, early_terminate=early, parameters={"train.rate.peak": peak})
    few = ["train.images=6400", "evaluate.every=1600", "evaluate.n_during=64", "evaluate.n=64", "train.samples_every=6400"]
    done = lab("sweep", file, *few, "track=none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    states = [row["state"] for row in _table(tmp_path)]
    assert set(states) == {"finished", "stopped early"}
    assert "is not among the best; stopped" in done.stderr


@pytest.mark.slow
def test_two_processes_share_a_sweep(tmp_path: Path) -> None:
    file = _file(tmp_path, parameters={"loss": {"values": ["l1", "l2", "huber"]}})
    command = [sys.executable, "-m", "ddpm_lab", "sweep", str(file), *FEW]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE) for _ in range(2)]
    for process in both:
        process.communicate(timeout=240)
        assert process.returncode == 0
    losses = [load_recipe(str(path)).experiment.loss.name for path in tmp_path.glob("results/smoke/*-*")]
    assert sorted(losses) == ["huber", "l1", "l2"]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown method": ({"method": "gird"}, "method: "),
    "a range in a grid": ({"parameters": {"seed": {"min": 1, "max": 3}}}, "parameters: seed: a grid needs `values`"),
    "no bound": ({"parameters": {"train": {"parameters": {"clip": {"min": 1}}}}}, "train.clip: uniform takes `min` and `max`"),
    "no range": ({"method": "random", "run_cap": 1, "parameters": {"seed": {"min": 3, "max": 1}}}, "seed: .* is not a range"),
    "a distribution that is unknown here": ({"parameters": {"seed": {"distribution": "beta"}}}, "seed: distribution: .*beta"),
    "a search without an end": ({"method": "random"}, "run_cap: "),
    "no place for the parameters": ({"command": ["ddpm-lab", "run", "smoke"]}, "command: .*args_no_hyphens"),
    "parameters with hyphens": ({"command": ["ddpm-lab", "${args}", "${args_no_hyphens}"]}, r"`\$\{args\}` is not known"),
    "no metric": ({"metric": None}, "metric: trials are ranked by it"),
    "an unknown key": ({"paramters": {}}, "paramters: "),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_sweep_file_costs_one_line_and_creates_nothing(case: str, tmp_path: Path, quick: Quick) -> None:
    from ddpm_lab.sweeps.sweep import Sweep

    changed, words = BAD[case]
    file = _file(tmp_path, **changed)
    with pytest.raises(BadInput, match=words) as caught:
        Sweep(str(file), [], None, tmp_path / "results", None)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()


def test_an_unknown_sweep_gets_the_nearest_name(quick: Quick) -> None:
    done = quick("sweep", "schedule_losses")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "did you mean 'schedules_losses'?" in done.stderr


def test_the_sweeps_of_the_house_are_whole() -> None:
    for file in (ROOT / "experiments/sweeps").glob("*.yaml"):
        assert isinstance(read(file), SweepFile)


def _row(number: int, value: float | None, fingerprint: str = "a", **parameters: object) -> Row:
    return Row(number, parameters, "finished" if value is not None else "failed (2)", value, fingerprint, 1.0, "")


def test_values_of_different_protocols_are_not_ranked() -> None:
    rows = [_row(1, 3.0), _row(2, None), _row(3, 2.0), _row(4, 1.0)]
    order = [line.split()[0] for line in table(rows, Metric(name="FID"))[0].splitlines()[1:]]
    assert order == ["4", "3", "1", "2"]
    text, _ = table([*rows, _row(5, 0.5, "b")], Metric(name="FID"))
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["1", "2", "3", "4", "5", "not"]
    assert "values of 2 protocols" in text


def test_nothing_is_plotted_of_nothing(tmp_path: Path) -> None:
    about = {("loss",): Parameter(values=["l1", "l2"])}
    assert not plot([_row(1, None, loss="l1")], Metric(name="FID"), about, tmp_path / "x.png")
    assert not plot([_row(1, 1.0, loss="l1")], Metric(name="FID"), about, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_a_nested_parameter_is_shown_by_its_dotted_name() -> None:
    row = Row(1, {"train": {"rate": {"peak": 0.003}}, "loss": "l1"}, "finished", 1.0, "aaaa", 1.0, "run")
    text, as_csv = table([row], Metric(name="FID"))
    assert text.splitlines()[0].split()[:3] == ["trial", "train.rate.peak", "loss"]
    assert next(csv.DictReader(as_csv.splitlines()))["train.rate.peak"] == "0.003"
    assert dotted({"train": {"rate": {"peak": 0.003, "decay": None}}}) == {"train.rate.peak": 0.003, "train.rate.decay": None}


def _finished(folder: Path, number: int, value: float, seed: int = 0, **recipe: object) -> Row:
    """A trial's run, as little of it as is compared."""
    (run := folder / "smoke" / f"20260101-00000{number}-t{number}").mkdir(parents=True)
    (run / "resolved.yaml").write_text(yaml.safe_dump({"seed": seed, **recipe}))
    made = {"sampler": "ddim", "seed": seed}
    record = {"metric": "FID", "extractor": "fashion_cnn", "value": value, "fingerprint": "a", "generation": made}
    (run / "result.json").write_text(json.dumps({"metrics": [record]}))
    return Row(number, {}, "finished", value, "a", 1.0, str(run))


def test_trials_that_seeds_alone_could_have_put_in_that_order_are_named(tmp_path: Path) -> None:
    trials = [_finished(tmp_path, number, value, loss=str(number)) for number, value in enumerate((2.0, 1.0, 1.1), 1)]
    assert "how much seeds differ is not known here" in tied_with_best(trials, "FID/fashion_cnn")
    for number, value in enumerate((1.0, 1.05, 1.1, 1.02), 4):  # other runs of the experiment
        _finished(tmp_path, number, value, seed=number, loss="another")
    logs = [math.log(value) for value in (1.0, 1.05, 1.1, 1.02)]
    half = stats.t.ppf(0.975, 3) * statistics.stdev(logs) * math.sqrt(2)
    assert math.log(1.1) < half < math.log(2.0)
    said = tied_with_best(trials, "FID/fashion_cnn")
    assert said.startswith("cannot be told from the best: trials 2, 3 (seeds move FID/fashion_cnn by 0.041")
    assert said.endswith("3 degrees of freedom)")
    alone = tied_with_best([trials[0], _finished(tmp_path, 8, 0.5, loss="best")], "FID/fashion_cnn")
    assert alone.startswith("trial 8 is better than all others")
    assert not tied_with_best(trials, "loss")


@pytest.mark.parametrize("damage", ["another file", "cut off", "zeros in the middle"])
def test_a_damaged_study_costs_one_line_that_says_what_to_do(damage: str, tmp_path: Path) -> None:
    file = _file(tmp_path)
    Sweep(str(file), [], None, tmp_path / "results", None)
    study = tmp_path / "results/sweeps/few/study.db"
    whole = study.read_bytes()
    half = len(whole) // 2
    study.write_bytes(
        {"another file": b"not a database" * 1000, "cut off": whole[:half], "zeros in the middle": whole[:4096] + bytes(half)}[
            damage
        ]
    )
    with pytest.raises(BadInput, match=r"study\.db: damaged .*; give the sweep's file another name to start again") as caught:
        Sweep(str(file), [], None, tmp_path / "results", None)
    assert "\n" not in str(caught.value)
