"""train.start: which weights a run begins with, what they cost, and what is said where they do not fit."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import Quick
from safetensors.torch import load_file

from ddpm_lab.config.load import load_recipe
from ddpm_lab.config.schema import Start
from ddpm_lab.inference.starting_weights import begin_from
from ddpm_lab.runner.prepare import prepare
from ddpm_lab.storage.measurement import read_result
from ddpm_lab.studies.suite_file import digest
from registry.errors import BadInput

FEW = ["classes=true", "train.images=320", "evaluate.n=8", "evaluate.every=null", "evaluate.metrics=[]"]


def _prepared(*overrides: str) -> object:
    return prepare(load_recipe("smoke", ["classes=true", *overrides]).experiment, torch.device("cpu"), lambda: 1)


def test_training_begins_with_the_weights_of_a_run_and_the_record_says_so(
    smoke_run: Path, quick: Quick, tmp_path: Path
) -> None:
    start = f"train.start={{run: {smoke_run}, weights: raw}}"
    done = quick("run", "smoke", *FEW, start, "train.rate.peak=1e-12", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"start: raw weights of {smoke_run}, 3,200 images" in done.stderr
    theirs, ours = load_file(smoke_run / "raw.safetensors"), load_file(tmp_path / "latest/raw.safetensors")
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)
    about = json.loads((tmp_path / "latest/start.json").read_text())
    assert (about["weights"], about["images"], about["left_out"], about["unused"]) == ("raw", 3200, [], [])
    # What began from there has cost both, and the name of the experiment stands for its newest finished run.
    again = quick("run", "smoke", *FEW, "train.start=smoke", "--results", tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "latest/start.json").read_text())["images"] == 3520
    result = read_result(tmp_path / "latest/result.json")
    assert (result.images, result.images_in_all) == (320, 3840)
    assert result.training_in_all > result.training_seconds > 0
    page = (tmp_path / "latest/report.html").read_text()
    assert f"ema weights of <code>{(tmp_path / 'smoke').resolve()}" in page
    assert "for 3,840 images" in page


def test_more_images_are_a_new_run_from_the_weights_and_resume_says_so(quick: Quick, tmp_path: Path) -> None:
    words = ["run", "smoke", *FEW, "--results", tmp_path, "--resume"]
    assert quick(*words).returncode == 0
    more = quick(*words, "train.images=640")
    assert more.returncode == 0, more.stderr
    first = min((tmp_path / "smoke").iterdir())
    assert f"starting a new one; train.start={first} would start it from the weights of that finished one" in more.stderr
    (tmp_path / "latest/result.json").unlink()
    unfinished = quick(*words, "train.images=960")
    assert unfinished.returncode == 2
    assert f"for more images finish it, then train.start={(tmp_path / 'latest').resolve()}" in unfinished.stderr


def test_check_adds_up_what_both_cost(smoke_run: Path, quick: Quick) -> None:
    done = quick("check", "smoke", "classes=true", f"train.start={smoke_run}", "train.images=640")
    assert done.returncode == 0, done.stderr
    assert f"start       ema weights of {smoke_run}, 3,200 images" in done.stdout
    assert "in all      3,840 images" in done.stdout


def test_a_tensor_of_another_shape_stays_newly_initialised_and_is_named(smoke_run: Path) -> None:
    network = _prepared("objective=mean_flow", "sampling.sampler=flow_map").model.network  # type: ignore[attr-defined]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.head.weight = torch.nn.Parameter(torch.zeros(2, *network.head.weight.shape[1:]))
    found = begin_from(Start(run=str(smoke_run)), network, Path("results"))
    new = [name for name in before if "second" in name]
    assert new
    assert sorted(found.left_out) == sorted([*new, "head.weight"])
    assert found.unused == ("head.weight",)
    assert "tensors newly initialised" in found.describe()
    theirs = load_file(smoke_run / "ema.safetensors")
    assert torch.equal(network.state_dict()["stem.weight"], theirs["stem.weight"])


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("nowhere", "; `ddpm-lab run nowhere` makes one"),
        ("no/run", "train.start: no run at 'no/run'"),
        ("{run: RUN, weights: ema_3}", "has no ema_3 weights; it has ema, raw"),
        ("{run: RUN, weigths: raw}", "weigths"),
    ],
)
def test_a_start_that_is_not_there_costs_one_line(
    start: str, words: str, smoke_run: Path, quick: Quick, tmp_path: Path
) -> None:
    done = quick("run", "smoke", *FEW, f"train.start={start.replace('RUN', str(smoke_run))}", "--results", tmp_path / "r")
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_another_network_is_refused(smoke_run: Path, quick: Quick, tmp_path: Path) -> None:
    other = "backbone={name: mlp, width: 16, depth: 1}"
    done = quick("run", "smoke", *FEW, other, f"train.start={smoke_run}", "--results", tmp_path / "r")
    assert done.returncode == 2
    assert "of it; begin with a run of the same backbone and sizes" in done.stderr


def test_a_resumed_run_needs_its_start_no_more(smoke_run: Path, quick: Quick, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(smoke_run, start := tmp_path / "start")
    words = [*FEW, f"train.start={start}", "train.checkpoint_every=160", "--results", tmp_path / "r"]
    assert quick("run", "smoke", *words, "--id", "one").returncode == 0
    (folder,) = (tmp_path / "r/smoke").iterdir()
    (folder / "result.json").unlink()
    shutil.rmtree(start)
    again = quick("run", "smoke", *words, "--resume")
    assert again.returncode == 0, again.stderr
    assert "resuming" in again.stderr


def test_the_id_of_a_run_in_a_study_changes_with_the_weights_it_starts_from_and_not_with_their_place(
    smoke_run: Path, tmp_path: Path
) -> None:
    def of(folder: Path, *words: str) -> str:
        return digest(load_recipe("smoke", [f"train.start={folder}", *words]))

    one, other = tmp_path / "one", tmp_path / "other"
    shutil.copytree(smoke_run, one)
    shutil.copytree(smoke_run, other)
    before = of(one)
    assert of(other) == before
    assert of(one, "train.clip=0.5") != before
    shutil.copy(other / "raw.safetensors", other / "ema.safetensors")
    assert of(other) != before
    (other / "ema.safetensors").unlink()
    with pytest.raises(BadInput, match=r"train\.start: .*cannot be read"):
        of(other)
