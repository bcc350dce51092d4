"""The command line in a process that stays: it imports the lab once, and runs one command after the other.

python one_process.py      orders as lines of JSON on standard input, outcomes as lines of JSON on standard output
"""

import contextlib
import gc
import io
import json
import os
import sys
import traceback
from pathlib import Path


def _memory(kind: str) -> int:
    """KiB, as the kernel has it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1])


def _run(words: list[str]) -> int:
    from ddpm_lab.cli.main import main

    try:
        return main(words)
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        return 99


def serve() -> None:
    """Until standard input ends."""
    import support.imported  # noqa: F401 - before memory is measured
    import torch
    from support.plugins_out import plugins_out

    from ddpm_lab.runner import preflight

    torch.set_num_threads(1)
    preflight.TRIAL_SECONDS, preflight.TRIAL_STEPS = 0, 2  # how long a run would take is asked of `lab` alone
    answers = sys.stdout
    for line in sys.stdin:
        words, cwd = json.loads(line)
        os.chdir(cwd)
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak
        before = _memory("VmRSS")
        out, err = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
        with plugins_out(), out as printed, err as said:
            status = _run(words)
        print(json.dumps([status, printed.getvalue(), said.getvalue(), _memory("VmHWM") - before]), file=answers, flush=True)


if __name__ == "__main__":
    serve()
