"""`sample`: what it writes, and what it leaves alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ddpm_lab
from ddpm_lab.cli.main import main
from ddpm_lab.inference.sampling_overrides import changed
from ddpm_lab.inference.trained_run import class_number
from ddpm_lab.storage.images import save_grid, unlike, write_images
from registry.choice import Choice
from registry.datasets.npz_reader import read_images, read_made_by
from registry.errors import BadInput

NAMES = ("T-shirt/top", "Ankle boot", "7")


def test_a_grid_drawn_another_way_stays_and_the_same_way_is_drawn_over(smoke_run: Path) -> None:
    def grids() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in smoke_run.glob("sample*.png")}

    for file in smoke_run.glob("sample*.png"):
        file.unlink()
    words = ["sample", str(smoke_run), "-n", "2", "--steps", "1"]
    assert main(words) == 0
    first = grids()
    assert list(first) == ["sample.png"]
    assert main([*words, "--seed", "1"]) == 0
    both = grids()
    assert len(both) == 2
    assert both["sample.png"] == first["sample.png"]
    assert main([*words, "--seed", "1"]) == 0
    assert main(words) == 0
    assert grids() == both


def test_a_picture_of_somebody_else_stays(tmp_path: Path) -> None:
    Image.new("L", (2, 2)).save(tmp_path / "x.png")
    (tmp_path / "y.png").write_bytes(b"not a picture")
    for name in "xy":
        assert unlike(tmp_path / f"{name}.png", "ours") != tmp_path / f"{name}.png"
    save_grid(tmp_path / "z.png", torch.zeros(1, 1, 4, 4, dtype=torch.uint8), about="ours")
    assert unlike(tmp_path / "z.png", "ours") == tmp_path / "z.png"
    assert unlike(tmp_path / "z.png", "theirs") != tmp_path / "z.png"


def test_the_images_carry_how_they_were_made(smoke_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    assert main(["sample", str(smoke_run), "-n", "3", "--steps", "2", "--weights", "raw", "--out", str(file)]) == 0
    made = read_made_by(file)
    assert made is not None
    assert (made["run"], made["steps"], made["weights"], made["seed"]) == (smoke_run.name, 2, "raw", 0)
    assert read_images(file).shape == (3, 1, 16, 16)
    assert json.loads(str(np.load(file)["made_by"])) == made, "numpy reads it without pickle"


def test_images_from_elsewhere_carry_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", np.zeros((2, 4, 4, 1), np.uint8))
    assert read_made_by(tmp_path / "x.npz") is None


@pytest.mark.parametrize("made_by", ["{", "[1]", '{"sampler": {"a": 1}}', json.dumps({"sampler": "x" * 400}), 5, ["a", "b"]])
def test_a_made_by_that_is_not_the_labs_is_refused(made_by: object, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", np.zeros((2, 4, 4, 1), np.uint8), made_by=np.array(made_by))
    with pytest.raises(BadInput, match=r"x\.npz: .*made_by"):
        read_made_by(tmp_path / "x.npz")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    made = {"run": "a", "steps": 5, "clip": True, "scale": 1.5}
    write_images(tmp_path / "x.npz", torch.zeros(2, 3, 4, 4, dtype=torch.uint8), None, made)
    assert read_made_by(tmp_path / "x.npz") == made


@pytest.mark.parametrize(("word", "number"), [("Ankle boot", 1), ("ankle BOOT", 1), ("T-shirt/top", 0), ("7", 2), ("1", 1)])
def test_a_class_goes_by_its_name_or_number(word: str, number: int) -> None:
    assert class_number(word, NAMES) == number


def test_a_class_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(BadInput, match="no class named 'ankle boots'; did you mean 'Ankle boot'"):
        class_number("ankle boots", NAMES)
    with pytest.raises(BadInput, match="no named classes; give a number"):
        class_number("boot", None)


def test_sample_and_python_take_the_name_of_a_class(smoke_run: Path, tmp_path: Path) -> None:
    run = ddpm_lab.load(smoke_run)
    assert run.shape.class_names
    name = run.shape.class_names[2].upper()
    assert main(["sample", str(smoke_run), "-n", "2", "--class", name, "--out", str(tmp_path / "x.npz")]) == 0
    assert np.load(tmp_path / "x.npz")["arr_1"].tolist() == [2, 2]
    assert torch.equal(run.sample(2, classes=run.shape.class_names[1]), run.sample(2, classes=1))


def test_a_guidance_scale_is_that_of_the_runs_own_guidance(smoke_run: Path) -> None:
    run = ddpm_lab.load(smoke_run)
    auto = Choice("autoguidance", {"guide": "elsewhere", "scale": 2.0, "interval": None})
    found = changed(run, run.experiment.sampling.model_copy(update={"guidance": auto}), guidance=3.0)
    assert found.guidance.name == "autoguidance"
    assert dict(found.guidance.options) == {**auto.options, "scale": 3.0}
    assert changed(run, run.experiment.sampling, guidance=3.0).guidance.options["scale"] == 3.0


def test_a_guidance_without_a_scale_is_not_replaced(smoke_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from registry.guidance import GUIDANCE, ConditionalDenoise, Load
    from registry.path import NoisePath

    monkeypatch.setattr(GUIDANCE, "_parts", GUIDANCE._parts.copy())

    @GUIDANCE.register("unscaled")
    def unscaled(denoise: ConditionalDenoise, path: NoisePath, load: Load) -> ConditionalDenoise:
        """Guides nowhere."""
        return denoise

    run = ddpm_lab.load(smoke_run)
    sampling = run.experiment.sampling.model_copy(update={"guidance": Choice("unscaled", {})})
    with pytest.raises(BadInput, match="--guidance: 'unscaled' has no strength to set"):
        changed(run, sampling, guidance=3.0)
