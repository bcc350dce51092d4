"""What `torchrun` told this process: whether there are others, and which one it is. No torch, so a small process can ask."""

from __future__ import annotations

import os


def launched() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ and "MASTER_ADDR" in os.environ


def local_rank() -> int:
    """The number of this process on its machine, and of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0)) if launched() else 0


def local_size() -> int:
    """How many processes of this run share this machine."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", 1))) if launched() else 1


def is_main() -> bool:
    """Whether this is the process that writes files, talks to the user and to W&B."""
    return not launched() or os.environ["RANK"] == "0"


def restarted() -> bool:
    """Whether torchrun started the processes again after one of them died."""
    return launched() and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0
