"""What a command exits with: 0, one of these, or 128 + the number of the signal that interrupted it."""

from __future__ import annotations

import signal

BAD_INPUT, FAILURE = 2, 1


class Interrupted(Exception):
    """SIGINT or SIGTERM came; what was begun is saved, and can be gone on with."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.status = 128 + signum
        self.signum = signum


class NotFinite(RuntimeError):
    """Sampled images, or their features, hold NaN or infinite numbers; as uint8 such images would look like any others."""
