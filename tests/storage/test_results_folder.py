"""The folder of results, as runs that are still at work hold their part of it."""

import threading
import time
from pathlib import Path

from ddpm_lab.storage.results_folder import create_run, wait_until_free


def test_a_run_that_another_process_still_saves_is_waited_for_and_no_longer_than_said(tmp_path: Path) -> None:
    wait_until_free(tmp_path, "mine")  # there is none
    run = create_run(tmp_path, "smoke", "mine", lambda folder: folder.experiment.touch())
    begun = time.monotonic()
    wait_until_free(tmp_path, "mine", seconds=0.2)
    assert 0.2 <= time.monotonic() - begun < 5
    threading.Timer(0.3, run.release).start()
    wait_until_free(tmp_path, "mine")
    assert 0.5 <= time.monotonic() - begun < 10
    assert run.hold(), "it is left free"
