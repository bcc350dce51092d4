"""How long OpenMP's threads spin while they wait for work: it is read when torch loads the library, so it is set before that.

GNU's spins for some milliseconds, Intel's and LLVM's for 200. Where another process wants the same cores, a thread that spins
keeps them from the one it waits for, and both programs become many times slower (benchmarks/reports/contention).
"""

from __future__ import annotations

import os
import sys

# Longer than the pauses between two operations of a step, so that a run alone loses nothing; shorter than the scheduler's turn.
SPIN = {"GOMP_SPINCOUNT": "20000", "KMP_BLOCKTIME": "1"}  # GNU: rounds, 20,000 are a fraction of a millisecond; others: ms
POLICY = "OMP_WAIT_POLICY"  # the standard's own word for the same; each library reads it


def limit_spin() -> None:
    """Set it for this process and those that it starts, unless the user has, or torch is loaded and would not notice."""
    if "torch" in sys.modules or POLICY in os.environ:
        return
    for name, value in SPIN.items():
        os.environ.setdefault(name, value)
