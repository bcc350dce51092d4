"""Results as a terminal shows them."""

from typing import Any

from ddpm_lab.reports.result_table import result_lines
from ddpm_lab.storage.measurement import Measurement, Protocol, unavailable

MADE = {"sampler": "ddim", "steps": 50, "weights": "ema", "seed": 7}


def _record(metric: str, value: float, extractor: str = "fashion_cnn", **more: Any) -> Measurement:
    told: dict[str, Any] = {
        "interval": (value - 0.5, value + 0.5), "n": 2000, "floor": 1.0, "floor_n": 2000, "generation": MADE,
        "fingerprint": f"{len(metric):012x}", "protocol": Protocol(reference="shapes/train, 256 images"), **more,
    }  # fmt: skip
    return Measurement(metric, extractor, value, **told)


def test_values_stand_in_columns_and_their_protocol_is_said_once() -> None:
    table = list(result_lines([_record("FID", 3.2), _record("KID", 0.0123, floor_n=500, interval=None)]))
    assert table == [
        "metric  value    95 %            floor",
        "FID     3.200    2.700 to 3.700  1.000",
        "KID     0.01230                  1.00000 (N = 500)",
        "fashion_cnn, N = 2,000 against shapes/train, 256 images; ddim, 50 steps, ema weights, seed 7",
        "  protocol: FID 000000000003, KID 000000000003",
    ]


def test_a_metric_of_two_extractors_names_them_and_what_has_no_value_says_why() -> None:
    missing = unavailable("FID", "third", "no weights")
    table = list(result_lines([_record("FID", 3.2), _record("FID", 9.0, "other", generation={}), missing]))
    assert [line.split("  ")[0] for line in table[1:3]] == ["FID (fashion_cnn)", "FID (other)"]
    assert table[5] == "other, N = 2,000 against shapes/train, 256 images; made by: unknown"
    assert table[-1] == "FID unavailable (third: no weights)"


def test_without_any_value_there_is_no_table() -> None:
    missing = unavailable("FID", "fashion_cnn", "no weights")
    assert list(result_lines([missing])) == ["FID unavailable (fashion_cnn: no weights)"]
