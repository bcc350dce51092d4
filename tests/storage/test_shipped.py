"""Models that ship: known by name wherever a run is, and never written to. A run of the smoke experiment stands in for them."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import ddpm_lab as lab
from ddpm_lab.cli.main import main
from ddpm_lab.config.load import load_recipe
from ddpm_lab.config.schema import Start
from ddpm_lab.diffusion.build import build_model
from ddpm_lab.inference.starting_weights import begin_from
from ddpm_lab.storage import shipped
from ddpm_lab.storage.results_folder import create_run
from ddpm_lab.storage.run_folder import RunFolder
from ddpm_lab.studies.explain import subject
from ddpm_lab.studies.suite_file import digest
from registry.errors import BadInput

SHORT = ("--steps", "1")


@pytest.fixture(scope="module")
def exported(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("carried") / "models"
    assert main(["export", str(smoke_run), str(models / "drawn"), "--licence", "MIT"]) == 0
    return models


@pytest.fixture
def model(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the one model that ships, `drawn`; the user stands in an empty folder."""
    monkeypatch.setattr(shipped, "MODELS", exported)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return exported / "drawn"


def _content(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()}


def test_it_is_sampled_by_its_name_into_the_place_of_its_run(model: Path, smoke_run: Path) -> None:
    before = _content(model)
    grid = Path("results/smoke").parent / "drawn" / smoke_run.name / "sample.png"
    for _ in range(2):
        assert main(["sample", "drawn", "-n", "4", *SHORT]) == 0
    assert [file.name for file in grid.parent.glob("*.png")] == ["sample.png"]
    assert main(["sample", str(smoke_run), "-n", "4", *SHORT, "--png", "theirs.png"]) == 0
    assert Image.open(grid).tobytes() == Image.open("theirs.png").tobytes()
    assert sorted(os.listdir()) == ["results", "theirs.png"]
    assert _content(model) == before
    assert main(["sample", "drawn", "-n", "1", *SHORT, "--out", "x.npz"]) == 0


def test_python_opens_it_and_writes_nothing_until_it_is_evaluated(model: Path, smoke_run: Path) -> None:
    run = lab.load("drawn")
    assert torch.equal(run.sample(2, steps=1, classes="disc"), lab.load(smoke_run).sample(2, steps=1, classes="disc"))
    assert repr(run) == repr(lab.load(smoke_run)).replace(f"smoke/{smoke_run.name}", "drawn")
    assert run.result == lab.load(smoke_run).result
    assert os.listdir() == []
    value = run.evaluate(100, steps=1)[0].value
    for one in (run, "drawn", f"results/drawn/{smoke_run.name}"):
        assert lab.compare(one, n=100).rows[0].value == value
    assert len(lab.compare("drawn", f"results/drawn/{smoke_run.name}", n=100).rows) == 1
    assert [row.names for row in lab.compare("drawn", n=128).rows] == [("drawn",)]


def test_what_takes_a_run_takes_its_name(model: Path, smoke_run: Path, tmp_path: Path) -> None:
    assert main(["evaluate", "drawn", "-n", "100", *SHORT]) == 0
    (file,) = Path("results/drawn", smoke_run.name).glob("evaluation-*.json")
    assert subject.read("drawn", None, None, None).value == subject.read(str(smoke_run), None, None, None).value
    assert subject.read(str(file), None, None, None).way["n"] == 100
    assert main(["export", "drawn", "again"]) == 0
    assert (Path("again") / "ema.safetensors").read_bytes() == (model / "ema.safetensors").read_bytes()
    assert (
        main(["check", "drawn", "train.images=64", "classes=true", "sampling.guidance={name: autoguidance, guide: drawn}"]) == 0
    )
    guided = "{name: autoguidance, guide: drawn, scale: 1.5}"
    assert lab.load(smoke_run).sample(1, f"sampling.guidance={guided}", steps=1).shape == (1, 1, 16, 16)
    assert load_recipe("drawn").name == "drawn"
    assert load_recipe("drawn").experiment == load_recipe(str(smoke_run)).experiment


def test_training_starts_with_it_unless_runs_have_its_name(model: Path, smoke_run: Path, tmp_path: Path) -> None:
    run = lab.load(smoke_run)
    network = build_model(run.experiment, run.shape, torch.device("cpu")).network
    start, results = Start(run="drawn"), tmp_path / "results"
    found = begin_from(start, network, results)
    assert (Path(found.run), found.images, found.left_out) == (model, 3200, ())
    with_start = load_recipe("smoke", ["classes=true", "train.start=drawn"])
    known = digest(with_start)
    mine = create_run(results, "drawn", "mine", lambda folder: shutil.copytree(smoke_run, folder.path, dirs_exist_ok=True))
    mine.release()
    assert begin_from(start, network, results).run == str(mine.path)
    assert digest(with_start) == known
    RunFolder.open("drawn").writable()
    assert begin_from(start, network, results).run == str(mine.path)


def test_a_run_in_a_folder_of_that_name_wins_and_any_other_folder_does_not(model: Path, smoke_run: Path) -> None:
    Path("drawn").mkdir()
    assert RunFolder.open("drawn").path == model
    assert lab.compare("drawn").rows[0].value == lab.compare(smoke_run, n=128).rows[0].value
    shutil.rmtree("drawn")
    shutil.copytree(smoke_run, "drawn")
    assert RunFolder.open("drawn").path == Path("drawn")
    assert main(["sample", "drawn", "-n", "1", *SHORT]) == 0
    assert not Path("results").exists()


def test_a_wrong_name_is_told_the_nearest(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput, match=r"no run at 'drwan'.*ships with the lab; did you mean 'drawn'\? known: drawn; `ls"):
        lab.load("drwan")
    assert main(["compare", "drwan"]) == 2
    with pytest.raises(BadInput, match=r"no run at 'x/drwan': x/drwan/resolved.yaml is missing; `ls"):
        lab.load("x/drwan")
    with pytest.raises(BadInput, match=r"train.start: .*did you mean 'drawn'.*`ddpm-lab run drwan` makes one"):
        begin_from(Start(run="drwan"), torch.nn.Linear(1, 1), Path("results"))
    capsys.readouterr()
    assert main(["list", "models"]) == 0
    assert capsys.readouterr().out.startswith("drawn  3,200 images, FID ")
    monkeypatch.setattr(shipped, "MODELS", Path("nowhere"))
    assert main(["list", "models"]) == 0
    assert capsys.readouterr().out == "no model ships with this version of the lab\n"
    with pytest.raises(BadInput, match=r"is missing; `ls results/\*` shows the runs$"):
        lab.load("drawn")


def test_where_nothing_can_be_written_that_is_said_before_anything_is_measured(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("results").write_text("mine")
    for words in (["sample", "drawn", *SHORT], ["evaluate", "drawn", *SHORT]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "cannot be written" in said
        assert "sampling" not in said
    assert lab.load("drawn").sample(1, steps=1).shape == (1, 1, 16, 16)
