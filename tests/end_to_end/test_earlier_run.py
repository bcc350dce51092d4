"""A run's folder that an earlier commit made: earlier_run/make.py says how, and recorded.json what that commit made of it.

Bit for bit on the processor that recorded it; elsewhere within a tolerance, because other instructions add in another order.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from end_to_end.earlier_run.make import EVALUATED, POST_HOC, SAMPLED, digest, processor
from safetensors.torch import load_file

import ddpm_lab
from ddpm_lab.cli.main import main
from ddpm_lab.storage.measurement import read_measurements

HERE = Path(__file__).parent / "earlier_run"
RECORDED = json.loads((HERE / "recorded.json").read_text())
SAME = processor() == RECORDED["processor"] and torch.__version__.split("+")[0] == RECORDED["torch"]
# Elsewhere: with SSE or AVX2 alone no image differed on that processor, weights after 14 more steps by 7e-7 of their norm.
GRAY_LEVELS = 0.1  # of 255, on the average over an image
RELATIVE = 1e-3  # of a value, or of the norm of weights


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """The run sets its own number for the process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _copy(kind: str, results: Path) -> Path:
    (run,) = (HERE / kind).iterdir()
    return Path(shutil.copytree(run, results / "earlier" / run.name))


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    return _copy("finished", tmp_path / "finished")


def _require_same_weights(found: Path, recorded: Path | None = None) -> None:
    if SAME:
        assert digest(found.read_bytes()) == RECORDED["weights"][found.name], found.name
    if recorded is not None:
        new, old = (
            torch.cat([tensor.flatten() for _, tensor in sorted(load_file(file).items())]) for file in (found, recorded)
        )
        assert (new - old).norm() < RELATIVE * old.norm(), found.name


def _require_same_values(found: Path, recorded: Path) -> None:
    new, old = ({one.metric: one for one in read_measurements(file)} for file in (found, recorded))
    assert new.keys() == old.keys()
    assert len(old) == 10
    for metric, one in old.items():
        assert new[metric].fingerprint == one.fingerprint, metric
        assert new[metric].generation == one.generation, metric
        expected = one.value if SAME else pytest.approx(one.value, rel=RELATIVE, abs=RELATIVE)
        assert new[metric].value == expected, metric


def test_images(finished: Path, tmp_path: Path) -> None:
    recorded = np.load(HERE / "sampled.npz")
    for name, options in SAMPLED.items():
        file = tmp_path / f"{name}.npz"
        assert main(["sample", str(finished), *options, "--out", str(file)]) == 0
        images = np.load(file)["arr_0"]
        if SAME:
            assert digest(images.tobytes()) == RECORDED["images"][name], name
        assert np.abs(images.astype(float) - recorded[name]).mean() <= GRAY_LEVELS, name
    images = ddpm_lab.load(finished, "cpu").sample(8, seed=3)
    expected = torch.from_numpy(recorded["as_trained"]).permute(0, 3, 1, 2)
    assert (images.float() - expected.float()).abs().mean() <= (0 if SAME else GRAY_LEVELS), "in Python"


def test_values(finished: Path) -> None:
    (recorded,) = (HERE / "finished").glob("*/evaluation-*.json")
    (finished / recorded.name).unlink()
    assert main(["evaluate", str(finished), "-n", str(EVALUATED)]) == 0
    _require_same_values(finished / recorded.name, recorded)


def test_an_average_after_training(finished: Path) -> None:
    assert main(["ema", str(finished), "--std", POST_HOC]) == 0
    (made,) = finished.glob("ema_std*.safetensors")
    _require_same_weights(made)


def test_resumed_and_compared(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resumed = _copy("unfinished", tmp_path / "results")
    assert main(["run", str(HERE / "earlier.yaml"), "--results", str(tmp_path / "results"), "--resume"]) == 0
    assert "resuming" in capsys.readouterr().err
    for name in ("raw.safetensors", "ema.safetensors"):
        _require_same_weights(resumed / name, finished / name)
    _require_same_values(resumed / "result.json", finished / "result.json")
    assert main(["compare", str(finished), str(resumed), "--metric", "KID", "-n", "64"]) == 0
    ranked = capsys.readouterr().out
    value = next(one.value for one in read_measurements(finished / "result.json") if one.metric == "KID")
    assert ranked.count(f"{value:.4g}") == 2 or not SAME, ranked
    assert str(finished) in ranked
    assert str(resumed) in ranked
