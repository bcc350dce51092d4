"""When the trainer calls what happens beside training."""

import pytest

from ddpm_lab.training.callback import Callback


def _called(callback: Callback, *, stop_at: int = 0) -> list[int]:
    """At which images, of 320 in batches of 32."""
    return [now for now in range(32, 321, 32) if callback.is_due(now - 32, now, 320, now == stop_at)]


@pytest.mark.parametrize(
    ("every", "expected"),
    [(32, [*range(32, 320, 32)]), (64, [64, 128, 192, 256]), (100, [128, 224]), (320, []), (5, [*range(32, 320, 32)]),
     (None, [])],
)  # fmt: skip
def test_a_callback_is_due_where_a_multiple_is_reached_or_passed_and_not_at_the_end(
    every: int | None, expected: list[int]
) -> None:
    assert _called(Callback(print, every)) == expected


def test_the_end_and_a_stop_are_for_those_that_want_to_know() -> None:
    assert _called(Callback(print, None, at_end=True)) == [320]
    assert _called(Callback(print, 128, at_end=True)) == [128, 256, 320]
    assert _called(Callback(print, None, on_stop=True), stop_at=96) == [96]
    assert _called(Callback(print, None, on_stop=True), stop_at=320) == [320]
    assert _called(Callback(print, 128), stop_at=96) == [128, 256]
