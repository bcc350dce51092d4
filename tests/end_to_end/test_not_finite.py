"""What is NaN or infinite is said to be so: no value, no file and no exit status passes it off as a number."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file, save_file
from torch import Tensor

import ddpm_lab
from ddpm_lab.cli.main import main
from ddpm_lab.evaluation.accumulator import numbered
from ddpm_lab.evaluation.evaluate import evaluate_images, evaluators
from ddpm_lab.evaluation.evaluator import Evaluator
from ddpm_lab.runtime.signals import NotFinite
from ddpm_lab.storage.json_text import from_json, read_json, to_json, write_json
from ddpm_lab.storage.measurement import Measurement, failures, settled
from ddpm_lab.storage.metrics_log import Row
from ddpm_lab.storage.run_folder import RunFolder
from registry.choice import Choice
from registry.datasets import ImageSet
from registry.datasets.shapes import shapes
from registry.features import FEATURES


def _refuse(word: str) -> float:
    raise AssertionError(f"{word} is no JSON")


def _strict(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse)


@pytest.fixture
def broken_run(smoke_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run whose weights are NaN."""
    run = tmp_path / "run"
    run.mkdir()
    for name in ("resolved.yaml", "data.json"):
        (run / name).write_bytes((smoke_run / name).read_bytes())
    for name in ("ema", "raw"):
        weights = load_file(smoke_run / f"{name}.safetensors")
        save_file({key: torch.full_like(value, math.nan) for key, value in weights.items()}, run / f"{name}.safetensors")
    return run


def test_a_network_of_nan_has_no_fid_and_fails(broken_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(broken_run), "-n", "8", "--steps", "2"]) == 1
    said = capsys.readouterr()
    assert "FID unavailable (fashion_cnn: 8 of 8 sampled images are not finite" in said.out
    assert "8 of 8 sampled images are not finite" in said.err.splitlines()[-1]
    (file,) = broken_run.glob("evaluation-*.json")
    records = {record["metric"]: record for record in _strict(file.read_text())}
    assert records["FID"]["value"] is None
    assert records["held_out_loss"]["value"] is None
    assert "not finite (nan)" in records["held_out_loss"]["unavailable"]


def test_nothing_is_drawn_from_a_network_of_nan(broken_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(broken_run), "-n", "4", "--steps", "2", "--out", str(tmp_path / "x.npz")]) == 1
    assert "4 of 4 sampled images are not finite" in capsys.readouterr().err
    assert not list(tmp_path.glob("x.*"))
    with pytest.raises(NotFinite):
        ddpm_lab.load(broken_run).sample(2)


def test_a_run_whose_samples_are_nan_says_why_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ddpm_lab.diffusion.sampling import ImageSampler

    monkeypatch.setattr(
        ImageSampler, "unrounded", lambda self, indices, *_, **__: torch.full((len(indices), *self.shape), math.nan)
    )
    few = ["train.images=64", "evaluate.every=32", "evaluate.n=8", "evaluate.n_during=4", "sampling.steps=2", "track=none"]
    assert main(["run", "smoke", *few, "--results", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "after 32 images: no FID: 4 of 4 sampled images are not finite" in said
    assert "FID could not be measured: 8 of 8 sampled images are not finite" in said.splitlines()[-1]
    folder = RunFolder.open(tmp_path / "latest")
    record = read_json(folder.result)["metrics"][0]
    assert (record["metric"], record["value"]) == ("FID", None)
    assert "are not finite" in record["unavailable"]
    assert "unavailable: 8 of 8 sampled images are not finite" in folder.report.read_text()
    assert folder.final_weights


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageSet:
    monkeypatch.setenv("DDPM_LAB_CACHE", str(tmp_path))
    return shapes(size=8, count=32)


class _Broken:
    """Features that are infinite where an image is white (no source)."""

    dimension, class_names, classes, hash, resize = 2, None, None, "0", "none"

    def __call__(self, images: Tensor) -> tuple[Tensor, None]:
        mean = images.float().flatten(1).mean(dim=1)
        return torch.stack([mean, torch.where(mean == 255, math.inf, mean.square())], dim=1), None


def test_features_that_are_infinite_are_no_distance(data: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FEATURES, "_parts", FEATURES._parts.copy())
    FEATURES.register("broken")(_Broken)
    evaluator = Evaluator(Choice("broken", {}), data, torch.device("cpu"))
    images = torch.zeros(6, 1, 8, 8, dtype=torch.uint8)
    images[4:] = 255
    records = evaluate_images([evaluator], numbered(images.split(4)), 6, {})
    assert failures(records) == ["the features of 2 of 6 images are not finite (they hold NaN or infinite numbers)"]
    assert [record.metric for record in records if record.value is not None] == ["memorisation"]


def test_an_extractor_that_is_not_finite_on_training_images_is_unavailable(
    data: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Worse(_Broken):
        """Features that are always NaN (no source)."""

        def __call__(self, images: Tensor) -> tuple[Tensor, None]:
            return torch.full((len(images), 2), math.nan), None

    monkeypatch.setattr(FEATURES, "_parts", FEATURES._parts.copy())
    FEATURES.register("worse")(Worse)
    ready, missing = evaluators([Choice("worse", {})], data, torch.device("cpu"))
    assert not ready
    assert "32 of 32 images are not finite" in missing[0].unavailable


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_none_with_a_word(value: float) -> None:
    record = settled(Measurement("FID", "x", value))
    assert record.value is None
    assert str(value) in record.unavailable
    assert settled(Measurement("KID", "x", 1.0, interval=(0.0, value))).interval is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null_and_a_word_in_json(value: float) -> None:
    text = to_json({"loss": value, "fine": 1.5, "deep": [{"rate": value}], "interval": (0.0, value)})
    assert _strict(text) == {
        "loss": None, "fine": 1.5, "deep": [{"rate": None, "not_finite": {"rate": str(value)}}], "interval": [0.0, None],
        "not_finite": {"loss": str(value), "interval": str(value)},
    }  # fmt: skip
    assert to_json(from_json(text)) == text, "read and written again, the word stays"


def test_what_is_finite_is_written_as_ever() -> None:
    row = {"images": 5, "loss": 0.1 + 0.2, "name": "ä", "none": None, "yes": True, "pair": (1, 2.5)}
    assert to_json(row) == json.dumps(row)


def test_rows_and_results_of_older_runs_are_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.metrics.write_text('{"images": 1, "loss": NaN}\n{"images": 2, "loss": -Infinity}\n{"images": 3, "loss": 0.5}\n')
    assert [row.values["loss"] for row in folder.read_metrics()] == [None, None, 0.5]
    assert folder.series("loss") == [(3, 0.5)]
    folder.append_metrics(Row(4, {"loss": math.nan}))
    folder.cut_metrics(4)
    rows = [_strict(line) for line in folder.metrics.read_text().splitlines()]
    assert rows[-1] == {"images": 4, "loss": None, "not_finite": {"loss": "nan"}}


def test_a_file_is_whole_and_strict(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", [math.nan, {"a": 1}])
    assert _strict((tmp_path / "x.json").read_text()) == [None, {"a": 1}]


def test_the_lab_has_one_writer_for_json_files() -> None:
    files = [file for folder in ("ddpm_lab", "benchmarks") for file in (ROOT / folder).rglob("*.py")]
    assert [file.name for file in files if re.search(r"json\.dumps?\(.*indent", file.read_text())] == ["json_text.py"]
