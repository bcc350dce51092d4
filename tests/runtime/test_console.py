"""What a log file gets of a long run."""

import pytest

from ddpm_lab.runtime import console as progress
from ddpm_lab.runtime.console import Progress


@pytest.mark.parametrize(("seconds", "lines"), [(10 * 60 * 60, range(95, 102)), (60, range(10, 14)), (2, range(1, 2))])
def test_a_log_gets_a_line_for_every_percent_and_at_most_one_every_five_seconds(
    seconds: int, lines: range, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with Progress("training", 20_000) as bar:
        for _ in range(2_000):
            clock[0] += seconds / 2_000
            bar.advance(10)
    assert len(capsys.readouterr().err.splitlines()) in lines
