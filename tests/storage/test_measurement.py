"""Records on the disk: those of today, those of runs from before records had a version, and those of a version to come."""

import json
from pathlib import Path
from typing import Any

import pytest

from ddpm_lab.storage.json_text import write_json
from ddpm_lab.storage.measurement import (
    CurvePoint,
    Measurement,
    Protocol,
    RunResult,
    plain,
    read_measurements,
    read_points,
    read_result,
    unavailable,
)
from registry.errors import BadInput

PROTOCOL = Protocol("FID", "fashion_cnn", "ab12", "none", "uint8", "shapes/train, 128 images", "cd34", 64)
MADE = {"sampler": "ddim (eta 0.0)", "steps": 10, "clip": True, "weights": "ema", "seed": 0}
FID = Measurement(
    "FID", "fashion_cnn", 3.25, "not made for this data", (3.0, 3.5), 64, 1.0, (0.9, 1.1), 64, None, PROTOCOL.fingerprint,
    PROTOCOL, MADE, False, 3,
)  # fmt: skip
LOSS = Measurement(
    "held_out_loss", "network", 0.5, detail={"-2 to 0": 0.4, "0 to 2": 0.6}, covered=("-2 to 0",), buckets=("-2 to 0",),
    covariance=((1.0, 0.5), (0.5, 1.0)), fingerprint="f00d",
)  # fmt: skip
GONE = unavailable("FID", "inception_v3", "no file")
# As a run of version 0.1.0 wrote them.
OLD: dict[str, Any] = {
    "metric": "KID", "extractor": "fashion_cnn", "caveat": None, "value": 0.125, "interval": None, "n": 64, "floor": 0.0,
    "floor_interval": None, "floor_n": 64, "detail": None, "fingerprint": "beef",
    "protocol": {
        "metric": "KID (100 subsets of 64 against 128 at random)", "extractor": "fashion_cnn", "extractor_hash": "ab12",
        "resize": "none", "quantisation": "uint8", "reference": "shapes/train", "reference_hash": "cd34", "n": 64,
    },
    "generation": MADE,
}  # fmt: skip


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    result = RunResult((FID, LOSS, GONE), "a-run", 3200, None, 1000, None, 1.5, 2.0, 0.5, 0.25, 1)
    point = CurvePoint("ddim, uniform grid", 10, MADE, "aa", 10.0, 1.5, (FID,))
    write_json(tmp_path / "result.json", plain(result))
    write_json(tmp_path / "curve.json", plain([point]))
    assert read_result(tmp_path / "result.json") == result
    assert read_measurements(tmp_path / "result.json") == result.metrics
    assert read_points(tmp_path / "curve.json") == [point]


def test_a_record_without_a_value_is_short_and_one_with_a_value_has_its_nulls() -> None:
    assert plain(GONE) == {
        "metric": "FID", "extractor": "inception_v3", "value": None, "unavailable": "no file", "version": 1
    }  # fmt: skip
    assert plain(LOSS)["interval"] is None
    assert "unavailable" not in plain(LOSS)


def test_files_of_older_runs_are_read(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps([OLD]))
    (record,) = read_measurements(tmp_path / "evaluation.json")
    assert (record.value, record.version, record.protocol.n, record.made_by) == (
        0.125, 1, 64, "ddim (eta 0.0), 10 steps, ema weights"
    )  # fmt: skip
    assert record.number(record.value) == "0.12500", "what it does not say of itself the registry does"
    higher = {"precision": True, "KID": False, "unheard_of": False}
    for metric, is_better in higher.items():
        (tmp_path / "evaluation.json").write_text(json.dumps([OLD | {"metric": metric}]))
        assert read_measurements(tmp_path / "evaluation.json")[0].higher_is_better is is_better


def test_numbers_that_were_not_finite_are_read_as_none(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", [OLD | {"detail": {"a": float("nan"), "b": 1.0}}])
    assert "not_finite" in (tmp_path / "x.json").read_text()
    assert read_measurements(tmp_path / "x.json")[0].detail == {"a": None, "b": 1.0}


@pytest.mark.parametrize(
    ("content", "said"),
    [([OLD | {"value": "low"}], "damaged"), ({"run": "x"}, "damaged"), (3, "damaged"), ([3], "damaged"),
     ([OLD | {"version": 2}], "of version 2; this ddpm_lab reads up to 1"), ([OLD | {"version": "x"}], "damaged")],
)  # fmt: skip
def test_what_is_no_measurement_or_of_a_version_to_come_is_named(content: object, said: str, tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", content)
    with pytest.raises(BadInput, match=said) as caught:
        read_measurements(tmp_path / "x.json")
    assert "x.json" in str(caught.value)
