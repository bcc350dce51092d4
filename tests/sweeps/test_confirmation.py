"""The best trials, run again: values that nobody chose, and every run made once, by whichever process."""

import json
import math
import signal
import statistics
import time
from pathlib import Path

import pytest
import yaml
from conftest import Quick
from scipy import stats
from support.forks import Forks

from ddpm_lab.cli.main import main
from ddpm_lab.storage.locks import take_lock
from ddpm_lab.sweeps import confirmation, sweep

# With seed 0 l2 is the best, by luck.
VALUES = {
    ("l1", 0): 2.0, ("l2", 0): 1.0, ("huber", 0): 1.1,
    ("l1", 1): 2.1, ("l2", 1): 1.5, ("huber", 1): 1.08,
    ("l1", 2): 1.9, ("l2", 2): 1.6, ("huber", 2): 1.12,
    ("l1", 3): 2.0, ("l2", 3): 1.4, ("huber", 3): 1.2,
}  # fmt: skip

# What a run leaves, as little of it as is compared: value and protocol follow from its words.
RUN = """
import json, os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
here = Path.cwd()
told = dict(word.split("=") for word in sys.argv[1:] if "=" in word)
results, run_id = (sys.argv[sys.argv.index(option) + 1] for option in ("--results", "--id"))
with open(here / "begun", "a") as begun:
    begun.write(run_id + " ")
time.sleep(float((here / "slow").read_text()) if (here / "slow").exists() else 0)
if (here / "fails").exists() and (here / "fails").read_text() == run_id:
    sys.exit(1)
seed = int(told.get("seed", 0))
assert seed == 0 or run_id[-6:-1] != ".seed" or told["sampling.seed"] == str(seed)
value = json.loads((here / "values").read_text())[told["loss"] + told.get("seed", "0")]
folder = here / results / "toy" / ("20260101-000000-" + run_id)
folder.mkdir(parents=True)
(folder / "resolved.yaml").write_text(json.dumps({"seed": seed, "loss": told["loss"]}))
record = {"metric": "FID", "extractor": "fashion_cnn", "value": value, "fingerprint": told.get("n", "a")}
record["generation"] = {"sampler": "ddim", "seed": seed}
(folder / "result.json").write_text(json.dumps({"training_seconds": 1.0, "metrics": [record]}))
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep of three losses in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "POLL", 0.01)
    monkeypatch.setattr(sweep, "plot", lambda *_: False)  # tested elsewhere
    monkeypatch.setattr(confirmation, "POLL", 0.01)
    (tmp_path / "values").write_text(json.dumps({f"{loss}{seed}": value for (loss, seed), value in VALUES.items()}))
    return _written(tmp_path / "few.yaml")


def _written(file: Path, **changed: object) -> Path:
    about = {
        "method": "grid", "metric": {"name": "FID/fashion_cnn"}, "parameters": {"loss": {"values": ["l1", "l2", "huber"]}},
        "command": ["${interpreter}", "-c", RUN, "${args_no_hyphens}"],
    }  # fmt: skip
    file.write_text(yaml.safe_dump(about | changed))
    return file


def _begun() -> list[str]:
    return Path("begun").read_text().split()


def _rows(said: str) -> list[list[str]]:
    """Of the last table: rank, trial, value when chosen, mean."""
    lines = said.splitlines()
    start = next(number for number, line in enumerate(lines) if "when chosen" in line)
    return [line.split()[:4] for line in lines[start + 1 :] if line.split()[1:2] in (["1"], ["2"], ["3"])]


def test_luck_is_found_out_by_seeds_that_had_no_part_in_the_choice(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", str(file), "--confirm", "2"]) == 0
    said = capsys.readouterr().out
    assert sorted(_begun()) == [
        "few-0", "few-1", "few-1.seed1", "few-1.seed2", "few-2", "few-2.seed1", "few-2.seed2",
    ]  # fmt: skip
    logs = {loss: [math.log(VALUES[loss, seed]) for seed in (1, 2)] for loss in ("huber", "l2")}
    spread = math.sqrt(statistics.fmean(statistics.variance(pair) for pair in logs.values()))
    half = stats.t.ppf(0.975, 2) * spread / math.sqrt(2)
    means = {loss: statistics.fmean(pair) for loss, pair in logs.items()}
    assert means["l2"] - means["huber"] > half * math.sqrt(2), "huber is better by more than seeds make"
    assert _rows(said) == [
        ["1", "3", "1.1", f"{math.exp(means['huber']):.4g}"],
        ["2", "2", "1", f"{math.exp(means['l2']):.4g}"],
    ]
    assert f"{math.exp(means['l2'] - half):.4g} to {math.exp(means['l2'] + half):.4g} " in said
    assert said.count(" 2 seeds ") == 2
    assert f"by {spread:.2g} in its logarithm (one standard deviation, 2 degrees of freedom)" in said

    assert main(["sweep", str(file), "--confirm", "2"]) == 0
    later = capsys.readouterr().out
    assert _rows(later) == _rows(said)
    ties, _, _ = later.partition("\n\n")
    assert f"by {spread:.2g} in its logarithm, 2 degrees of freedom" in ties, "what l2 and huber were chosen by had luck"
    assert len(_begun()) == 7, "nothing is run twice"
    assert main(["sweep", str(file), "--confirm", "2", "--seeds", "3"]) == 0
    assert sorted(_begun()[7:]) == ["few-1.seed3", "few-2.seed3"]
    assert capsys.readouterr().out.count("3 seeds") == 2


def test_seeds_that_a_sweep_has_tried_are_not_fresh(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _written(file, parameters={"loss": {"values": ["huber"]}, "seed": {"values": [0, 2, 1]}})
    assert main(["sweep", str(file), "--confirm", "1", "--seeds", "1"]) == 0
    assert _begun()[3:] == ["few-2.seed3"]
    (row,) = _rows(capsys.readouterr().out)
    assert row == ["1", "3", "1.08", "1.2"]


def test_more_than_there_are_is_all_of_them(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", str(file), "--confirm", "5", "--seeds", "1"]) == 0
    said, error = capsys.readouterr()
    assert "--confirm 5: 3 trials are finished, so all of them are run again" in error
    assert [row[1] for row in _rows(said)] == ["3", "2", "1"]
    assert said.count("images, not seeds") == 3


def test_a_run_that_fails_is_in_no_mean_and_is_tried_again(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("fails").write_text("few-1.seed2")
    for _ in range(2):
        assert main(["sweep", str(file), "--confirm", "1"]) == 0
        said, error = capsys.readouterr()
        assert "trial 2 with seed 2 failed (1) and is tried again next time" in error
        assert _rows(said) == [["1", "2", "1", "1.5"]]
    Path("fails").unlink()
    assert main(["sweep", str(file), "--confirm", "1"]) == 0
    assert _rows(capsys.readouterr().out) == [["1", "2", "1", f"{math.sqrt(1.5 * 1.6):.4g}"]]
    assert _begun().count("few-1.seed2") == 3
    assert _begun().count("few-1.seed1") == 1


@pytest.mark.parametrize(
    ("words", "changed", "text"),
    [
        (["--confirm", "0"], {}, "--confirm: 0 is not a positive number"),
        (["--seeds", "3"], {}, "--seeds 3: these are for trials that are run again; add --confirm 3"),
        (["--confirm", "1"], {"metric": {"name": "loss"}}, "few.yaml: metric: 'loss' is no metric of a result"),
    ],
)
def test_what_cannot_be_confirmed_is_refused_before_anything_runs(
    words: list[str], changed: dict[str, object], text: str, file: Path, quick: Quick
) -> None:
    _written(file, **changed)
    done = quick("sweep", file, *words, cwd=file.parent)
    assert done.returncode == 2
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("results").exists()


def test_values_of_two_protocols_have_no_best(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _written(file, parameters={"loss": {"values": ["l1"]}, "n": {"values": [8, 16]}})
    assert main(["sweep", str(file), "--confirm", "1"]) == 2
    said, error = capsys.readouterr()
    assert said.count("finished") == 2, "the table stands"
    assert "results/sweeps/few have values of 2 protocols, so none is the best" in error


@pytest.mark.slow
def test_two_processes_share_what_is_run_again_and_a_stopped_one_resumes(file: Path, forks: Forks) -> None:
    """Another process has one of the runs; the first is stopped within the other, and two more come to the end together."""
    words = "sweep", file, "--confirm", "1"
    assert main(["sweep", str(file)]) == 0
    held = take_lock(Path("results/sweeps/few/.few-1.seed1.lock"))
    assert held is not None
    Path("slow").write_text("60")
    first = forks.start(*words, cwd=file.parent)
    _until_begun("few-1.seed2")
    first.send_signal(signal.SIGTERM)
    assert first.wait() == 143
    assert "interrupted; the same command resumes it" in first.stderr.read()
    assert "few-1.seed1" not in _begun()
    held.release()
    Path("slow").write_text("0.5")
    both = [forks.start(*words, cwd=file.parent) for _ in range(2)]
    said = [process.communicate() for process in both]
    assert [process.wait() for process in both] == [0, 0], said
    assert sorted(_begun()[3:]) == ["few-1.seed1", "few-1.seed2", "few-1.seed2"]
    assert _rows(said[0][0]) == _rows(said[1][0]) == [["1", "2", "1", f"{math.sqrt(1.5 * 1.6):.4g}"]]


def _until_begun(run_id: str) -> None:
    end = time.monotonic() + 60
    while run_id not in _begun():
        assert time.monotonic() < end
        time.sleep(0.05)
