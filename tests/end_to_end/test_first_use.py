"""What a new user types first."""

import re
from pathlib import Path

import pytest
from conftest import ROOT

from ddpm_lab.cli.main import main
from ddpm_lab.config.load import load_recipe
from registry.errors import BadInput


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    declared = re.search(r"^version = (.+)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    assert declared
    assert capsys.readouterr().out == f"ddpm-lab {declared[1]}\n"


def test_the_experiments_are_listed_with_what_they_say_of_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "experiments"]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert set(listed) == {file.stem for file in (ROOT / "experiments").glob("*.yaml")}
    assert listed["flow"].startswith("Rectified flow as Stable Diffusion 3 trains it")


def test_experiments_are_listed_in_any_folder_and_the_users_own_win(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/flow.yaml").write_text("# Mine.\n")
    (tmp_path / "experiments/mine.yaml").write_text("# Too.\n")
    assert main(["list", "experiments"]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert set(listed) == {"mine", *(file.stem for file in (ROOT / "experiments").glob("*.yaml"))}
    assert (listed["flow"], listed["mine"]) == ("Mine.", "Too.")


@pytest.mark.parametrize("command", ["run", "check", "sweep", "sample", "evaluate"])
def test_overrides_are_not_said_to_be_required(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "the following arguments are required" in said
    assert "key=value" not in said


@pytest.mark.parametrize(
    ("word", "key"),
    [("train.accumulate=3", "train.accumulate"), ("timesteps=1", "sampling.steps"), ("train.batch=64000", "train.images"),
     ("train={ema: null}", "sampling.weights"), ("sampling.guidance.scale=2", "sampling.guidance")],
)  # fmt: skip
def test_an_override_that_does_not_fit_the_file_is_blamed_on_the_command_line(word: str, key: str, tmp_path: Path) -> None:
    (file := tmp_path / "x.yaml").write_text(f"extends: {ROOT}/experiments/smoke.yaml\nsampling: {{weights: ema}}\n")
    with pytest.raises(BadInput, match=rf"^command line: {key}: "):
        load_recipe(str(file), [word])


def test_what_does_not_fit_within_a_file_is_blamed_on_the_file(tmp_path: Path) -> None:
    (file := tmp_path / "x.yaml").write_text(f"extends: {ROOT}/experiments/smoke.yaml\ntrain: {{accumulate: 3}}\n")
    with pytest.raises(BadInput, match=rf"^{file}: train.accumulate: "):
        load_recipe(str(file), ["seed=1"])
