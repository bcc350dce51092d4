"""Where the lab keeps what it can fetch or compute again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$DDPM_LAB_CACHE`, else `ddpm_lab` under `$XDG_CACHE_HOME` or `~/.cache`."""
    if chosen := os.environ.get("DDPM_LAB_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddpm_lab"
