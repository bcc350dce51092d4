"""The models in ddpm_lab/carried/models: small, complete, licensed, and what the command on their card makes."""

import math
import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Lab
from safetensors.torch import load_file

from ddpm_lab.cli.main import main
from ddpm_lab.config.command import command_of
from ddpm_lab.config.load import load_recipe
from ddpm_lab.storage import shipped
from ddpm_lab.storage.files import sha256
from ddpm_lab.storage.measurement import read_result
from ddpm_lab.storage.run_folder import RunFolder

LARGEST = 3_000_000  # bytes of a folder
SEEDS = 0.083  # of ln FID between seeds, one standard deviation: benchmarks/reports/precision/report.md, the larger of the two
each_model = pytest.mark.parametrize("folder", [pytest.param(path, id=name) for name, path in shipped.models().items()])


def _command(folder: Path) -> list[str]:
    card = (folder / "README.md").read_text()
    (line,) = re.findall(r"^    (ddpm-lab run .*)$", card, re.M)
    return shlex.split(line)[1:]


def test_what_is_carried_is_a_model() -> None:
    known = shipped.models()
    assert {path.name for path in shipped.MODELS.glob("*")} == set(known)
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in known)


@each_model
def test_it_is_complete_and_small(folder: Path) -> None:
    names = {file.name for file in folder.iterdir()}
    assert names == {
        "README.md", "config.json", "data.json", "ema.safetensors", "environment.json", "resolved.yaml", "result.json",
    }  # fmt: skip
    assert sum(file.stat().st_size for file in folder.iterdir()) < LARGEST
    assert {str(tensor.dtype) for tensor in load_file(folder / "ema.safetensors").values()} <= {"torch.float32", "torch.int64"}
    recipe = load_recipe(str(folder))
    assert recipe.experiment.budget == "cpu"
    assert recipe.experiment.classes == folder.name.endswith("_classes")
    assert not recipe.plugins


@each_model
def test_its_card_has_licence_result_protocol_and_hash(folder: Path) -> None:
    card, main_value = (folder / "README.md").read_text(), read_result(folder / "result.json").of_main[0]
    assert "Licence of the weights: MIT." in card
    assert "Licence of the data: MIT" in card
    assert sha256(folder / "ema.safetensors") in card
    assert f"{main_value.value:.4g} | {main_value.around(main_value.interval)}" in card
    assert main_value.fingerprint in card
    assert (main_value.n, main_value.generation["weights"]) == (2000, "ema")


@each_model
def test_its_command_is_its_recipe(folder: Path) -> None:
    """As experiments and budgets are today: a change of them leaves the card behind, and shows here."""
    run, name, budget, value, *words = _command(folder)
    assert (run, budget) == ("run", "--budget")
    found = load_recipe(name, words, value)
    assert found.experiment.model_dump(exclude={"track"}) == load_recipe(str(folder)).experiment.model_dump(exclude={"track"})
    assert command_of(found) is not None


@pytest.mark.slow
@each_model
def test_sixteen_images_take_ten_seconds_from_the_prompt_and_no_data(folder: Path, tmp_path: Path) -> None:
    """Seconds of the processor, because the machine may have other work."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "DDPM_LAB_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    before = _of_children()
    done = subprocess.run(
        [sys.executable, "-m", "ddpm_lab", "sample", folder.name, "-n", "16"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert _of_children() - before < 10
    assert [file.name for file in tmp_path.iterdir()] == ["results"], "no data were fetched"


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
@each_model
def test_it_is_what_its_command_makes(folder: Path, lab: Lab, tmp_path: Path) -> None:
    """To the bit on the machine on which it was made, else as good as another seed would be."""
    made = RunFolder(folder).recorded_environment()
    words = [*_command(folder), f"train.threads={made.threads}", "track=none", "--results", tmp_path, "--device", "cpu"]
    assert lab(*words, timeout=7200).returncode == 0
    assert main(["export", str(tmp_path / "latest"), str(tmp_path / "again")]) == 0
    now = RunFolder(tmp_path / "again").recorded_environment()
    if all(getattr(now, key) == getattr(made, key) for key in ("hardware", "threads", "precision", "python")) and (
        now.packages["torch"] == made.packages["torch"]
    ):
        assert sha256(tmp_path / "again/ema.safetensors") == sha256(folder / "ema.safetensors")
    ours, theirs = (read_result(path / "result.json").of_main[0] for path in (tmp_path / "again", folder))
    assert ours.fingerprint == theirs.fingerprint
    apart = math.exp(1.96 * math.sqrt(2) * SEEDS)
    assert ours.interval[0] / apart < theirs.interval[1]
    assert theirs.interval[0] / apart < ours.interval[1]
