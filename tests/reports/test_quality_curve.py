"""`evaluate --curve`: the points, what they cost, and that no point is measured twice."""

import json
from pathlib import Path

import pytest
from conftest import Quick


def _rows(run: Path, kind: str) -> list[dict[str, object]]:
    return json.loads((run / f"curve-{kind}.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def conditional(quick: Quick, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Knows classes, and keeps what averages of other lengths are made of."""
    results = tmp_path_factory.mktemp("curve") / "results"
    words = ["classes=true", "train.images=640", "train.snapshots_every=160", "evaluate.n=60", "evaluate.every=null",
             "train.ema=[{name: power, std: 0.05}, {name: power, std: 0.1}]"]  # fmt: skip
    done = quick("run", "smoke", *words, "--results", results)
    assert done.returncode == 0, done.stderr
    return (results / "latest").resolve()


def test_evaluations_are_counted_and_known_points_are_not_drawn_again(conditional: Path, quick: Quick) -> None:
    words = ("evaluate", conditional, "--curve", "nfe", "-n", "60", "--samplers", "ddim,heun/log_snr")
    done = quick(*words, "--at", "2,4")
    assert done.returncode == 0, done.stderr
    found = {(row["curve"], row["at"]): row for row in _rows(conditional, "nfe")}
    # Heun takes two evaluations for each step, but one for the last.
    wanted = {
        ("ddim, uniform grid", 2): 2,
        ("ddim, uniform grid", 4): 4,
        ("heun, log_snr grid", 2): 3,
        ("heun, log_snr grid", 4): 7,
    }
    assert {key: row["evaluations"] for key, row in found.items()} == wanted
    assert (conditional / "curve-nfe.png").stat().st_size > 5000
    assert "heun, log_snr grid, 4 steps" in done.stdout
    more = quick(*words, "--at", "2,3,4")
    assert more.returncode == 0, more.stderr
    assert next(line for line in more.stderr.splitlines() if ": FID " in line).startswith("2 of 6")
    assert len(_rows(conditional, "nfe")) == 6


def test_a_default_that_does_not_suit_the_path_is_left_out(quick: Quick, tmp_path: Path) -> None:
    words = ["schedule=flow", "target=velocity", "train.images=64", "evaluate.features=[]"]
    assert quick("run", "smoke", *words, "--results", tmp_path).returncode == 0
    done = quick("evaluate", tmp_path / "latest", "--curve", "nfe", "-n", "20", "--at", "2", "--features", "fashion_cnn")
    assert done.returncode == 0, done.stderr
    assert "left out: dpmpp_2m/log_snr" in done.stderr
    assert [row["curve"] for row in _rows((tmp_path / "latest").resolve(), "nfe")] == ["ddim, uniform grid"]


def test_guidance_costs_two_evaluations_where_it_guides(conditional: Path, quick: Quick) -> None:
    done = quick("evaluate", conditional, "--curve", "guidance", "--at", "1,2", "-n", "60", "--steps", "4", "--sampler", "ddim")
    assert done.returncode == 0, done.stderr
    assert [row["evaluations"] for row in _rows(conditional, "guidance")] == [4, 8]


def test_averages_of_other_lengths_are_made_and_measured(conditional: Path, quick: Quick) -> None:
    done = quick("evaluate", conditional, "--curve", "ema", "--at", "0.07", "-n", "60", "--steps", "2", "--sampler", "ddim")
    assert done.returncode == 0, done.stderr
    assert [row["at"] for row in _rows(conditional, "ema")] == ["raw", "ema", "ema_std0.070", "ema_2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--at", "5"], "--at: the option is for --curve"),
        (["--curve", "nfe", "--at", "5,x"], "not a list of numbers"),
        (["--curve", "nfe", "--at", "2.5"], "2.5 is not a number of steps"),
        (["--curve", "nfe", "--samplers", "ddimm"], "did you mean 'ddim'"),
        (["--curve", "nfe", "--at", "100000"], "do not fit"),
        (["--curve", "ema", "--samplers", "ddim"], "--samplers"),
        (["--curve", "ema", "--at", "0.1"], "no snapshots"),
        (["--curve", "nfe", "--extrapolate"], "--extrapolate"),
    ],
)
def test_bad_input_is_named(words: list[str], said: str, smoke_run: Path, quick: Quick) -> None:
    done = quick("evaluate", smoke_run, *words)
    assert done.returncode == 2
    assert said in done.stderr
