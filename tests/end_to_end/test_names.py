"""Names that users choose are names, whatever is in them, and none leads out of its folder or into another's."""

import json
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Quick

from ddpm_lab.cli.main import main
from ddpm_lab.storage.results_folder import create_run, newest_unfinished, with_id
from ddpm_lab.sweeps.sweep import Sweep
from registry.errors import BadInput

SMOKE = f"{ROOT}/experiments/smoke.yaml"


def _run(results: Path, experiment: str, name: str, *, finished: bool = False) -> Path:
    """The folder of a run that began, and came to its end where `finished`."""
    (path := results / experiment / name).mkdir(parents=True)
    (path / "resolved.yaml").write_text("seed: 0\n")
    if finished:
        line = {"metric": "FID", "extractor": "fashion_cnn", "value": 1.5, "fingerprint": "f00d"}
        (path / "result.json").write_text(json.dumps({"images": 64, "training_seconds": 1.0, "metrics": [line]}))
    return path


def test_an_id_is_that_of_one_run(tmp_path: Path) -> None:
    _run(tmp_path, "smoke", "20250101-000000-a-b")
    assert with_id(tmp_path, "smoke", "b") is None
    found = with_id(tmp_path, "smoke", "a-b")
    assert found is not None
    assert found.id == "20250101-000000-a-b"


@pytest.mark.parametrize("name", ["a[b]", "a*", "*", "[!x]*", "?"])
def test_what_is_a_pattern_elsewhere_is_a_name_here(name: str, tmp_path: Path) -> None:
    _run(tmp_path, "ab", "20250101-000000-x")
    assert with_id(tmp_path, name, "x") is None
    assert newest_unfinished(tmp_path, name) is None
    mine = _run(tmp_path, name, "20250101-000000-x")
    found = with_id(tmp_path, name, "x")
    assert found is not None
    assert found.path == mine


def test_the_newest_run_is_newest_by_its_time_whatever_its_experiment(tmp_path: Path) -> None:
    _run(tmp_path, "z", "20250101-000000-x")
    newer = _run(tmp_path, "a", "20250102-000000-x")
    found = with_id(tmp_path, None, "x")
    assert found is not None
    assert found.path == newer


def test_only_runs_are_resumed(tmp_path: Path) -> None:
    _run(tmp_path, "smoke", "zz-notes")  # a folder of the user's
    assert newest_unfinished(tmp_path, "smoke") is None


def _sweep(folder: Path, stem: str, **changed: object) -> Path:
    about = {
        "method": "grid", "metric": {"name": "FID/fashion_cnn"}, "parameters": {"loss": {"values": ["l1"]}},
        "command": ["/usr/bin/env", "true", "${args_no_hyphens}"],
    }  # fmt: skip
    (file := folder / f"{stem}.yaml").write_text(yaml.safe_dump(about | changed))
    return file


def test_a_sweep_takes_no_trial_of_another_for_its_own_and_none_without_a_result_for_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its command ends with 0 and makes nothing, again and again: the trial has failed, and the sweep comes to its end."""
    monkeypatch.chdir(tmp_path)
    _run(Path("results"), "smoke", "20250101-000000-small-lr-0", finished=True)
    for _ in range(2):
        assert main(["sweep", str(_sweep(tmp_path, "lr"))]) == 0
        said, error = capsys.readouterr()
        assert "1.5" not in said
        assert "failed (1)" in said
        assert error.count("ended without a result, so it has failed") == 1


def test_a_damaged_result_costs_the_trial_and_not_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = _run(Path("results"), "smoke", "20250101-000000-lr-0", finished=True)
    for damage in ("{", '{"training_seconds": "x", "metrics": []}'):
        (run / "result.json").write_text(damage)
        assert main(["sweep", str(_sweep(tmp_path, "lr"))]) == 0
        said, error = capsys.readouterr()
        assert "failed (1)" in said
        assert error.count("result.json is damaged") == 1


@pytest.mark.parametrize("place", ["a?b", "50%20", "a#b", "[a]*"])
def test_a_sweep_stays_in_its_folder_whatever_that_is_called(place: str, tmp_path: Path) -> None:
    results = tmp_path / place
    sweep = Sweep(str(_sweep(tmp_path, "lr")), [], None, results, None)
    assert (sweep.folder / "study.db").stat().st_size > 0
    assert {path.name for path in tmp_path.iterdir()} == {place, "lr.yaml"}


@pytest.mark.parametrize("stem", ["..", ".", ".hidden", "a[b]", "two words", "x" * 101])
def test_a_sweep_whose_name_cannot_be_part_of_an_id_is_refused(stem: str, tmp_path: Path) -> None:
    (inner := tmp_path / "inner").mkdir()
    with pytest.raises(BadInput, match="its name becomes part of its runs' ids"):
        Sweep(str(_sweep(inner, stem)), [], None, inner / "results", None)
    assert [path.name for path in inner.iterdir()] == [f"{stem}.yaml"]


@pytest.mark.parametrize("name", ["latest", "Latest", "sweeps", "suites", "wandb", "..", ".", ".x", "a\nb"])
@pytest.mark.parametrize("command", ["run", "check"])
def test_names_that_the_results_folder_needs_are_refused_before_anything_is_created(
    name: str, command: str, tmp_path: Path, quick: Quick
) -> None:
    (inner := tmp_path / "inner").mkdir()
    (file := inner / f"{name}.yaml").write_text(f"extends: {SMOKE}\n")
    words = ["--results", str(inner / "results")] if command == "run" else []
    done = quick(command, file, *words, cwd=inner)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "cannot be the name of an experiment" in line
    assert [path.name for path in inner.iterdir()] == [file.name]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_lies_where_the_link_to_the_newest_run_goes_stays(kind: str, tmp_path: Path, quick: Quick) -> None:
    (results := tmp_path / "results").mkdir()
    (results / "latest").mkdir() if kind == "folder" else (results / "latest").write_text("mine")
    done = quick("run", SMOKE, "--results", results)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"{results}/latest is no link" in line
    assert [path.name for path in results.iterdir()] == ["latest"]


def test_a_finished_run_of_that_id_and_another_experiment_is_not_taken_for_this_one(smoke_run: Path, quick: Quick) -> None:
    results, run_id = smoke_run.parent.parent, smoke_run.name.split("-", 2)[2]
    same = quick("run", "smoke", "classes=true", "--results", results, "--id", run_id)
    assert same.returncode == 0
    assert "is finished already" in same.stderr
    other = quick("run", "smoke", "classes=true", "loss=l1", "--results", results, "--id", run_id)
    assert other.returncode == 2
    (line,) = other.stderr.splitlines()
    assert (
        "cannot be resumed: loss.name changed from 'l2' to 'l1'; run it as it was, or start a new run under another id" in line
    )


def test_the_id_of_an_agent_is_checked_as_one_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    monkeypatch.setenv("WANDB_RUN_ID", "../../x")
    assert main(["run", SMOKE, "--results", str(tmp_path / "results")]) == 2
    assert "WANDB_RUN_ID: '../../x' is not a valid id" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_that_ends_in_the_second_in_which_another_began_costs_none(tmp_path: Path) -> None:
    first = create_run(tmp_path, "smoke", "same")
    first.experiment.write_text("seed: 0\n")
    try:
        second = create_run(tmp_path, "smoke", "same")
    except BadInput:
        pass
    else:
        assert second.path != first.path
    assert first.experiment.is_file()


EXITS = """
import sys
from registry.losses import LOSSES

@LOSSES.register("exits_{status}")
def exits(prediction, target):
    "Ends the process, where there are more than the two images that every part is tried on."
    if len(prediction) > 2:
        sys.exit({status})
    return (prediction - target) ** 2
"""


@pytest.mark.parametrize("status", [0, None, 5])
def test_a_run_that_a_part_ends_has_failed(status: int | None, tmp_path: Path, quick: Quick) -> None:
    (file := tmp_path / "exits.py").write_text(EXITS.format(status=status))
    words = [f"plugins=[{file}]", f"loss=exits_{status}", "train.images=32", "train.batch=32", "evaluate.n=2"]
    done = quick("run", SMOKE, *words, "--results", tmp_path / "results")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "SystemExit" in line
    assert str(file) in line
