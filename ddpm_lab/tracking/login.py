"""Whether W&B can be reached as somebody, decided before its client is started."""

from __future__ import annotations

import configparser
import contextlib
import os
from pathlib import Path
from typing import Literal

from ddpm_lab.config.schema import Track
from ddpm_lab.runtime.console import say

Mode = Literal["online", "offline", "disabled"]


def mode_of(track: Track) -> Mode:
    """The mode, decided before `wandb.init`, which would otherwise ask on a terminal and fail elsewhere."""
    if track.name == "none":
        return "disabled"
    chosen = os.environ.get("WANDB_MODE", "") if track.mode == "auto" else track.mode
    if os.environ.get("WANDB_MODE") == "disabled" or chosen == "disabled":
        return "disabled"
    if chosen == "offline":
        return "offline"
    if logged_in():
        return "online"
    if chosen == "online":
        say("W&B: track.mode is online, but nobody is logged in; tracking offline (`wandb login` fixes this)")
    return "offline"


def logged_in() -> bool:
    """Whether W&B has a key: in the environment, or in the netrc file for its server."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    import netrc
    from urllib.parse import urlsplit

    host = urlsplit(os.environ.get("WANDB_BASE_URL") or _configured_url() or "https://api.wandb.ai").hostname or ""
    file = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc(str(file)).authenticators(host) is not None
    return False


def _configured_url() -> str | None:
    """The server of `wandb login --host`."""
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or Path.home() / ".config/wandb")
    settings = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(OSError, configparser.Error):
        settings.read(folder / "settings")
    return settings.get("default", "base_url", fallback=None)
