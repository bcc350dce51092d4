"""What no file, log or server may tell: where the user's home folder is, and the key of the W&B account."""

from __future__ import annotations

import functools
import os
import pwd
import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def discreet(value: T) -> T:
    """The same with the home folder as `~` and without the W&B key, in every text of a tree of mappings and lists.

    It takes values, before they become YAML, JSON or HTML: those fold and escape a text, and a home with spaces or with letters
    beyond ASCII is not found in what they make of it.
    """
    redacted: T = _mapped(value, _redact)
    return redacted


def restored(value: T) -> T:
    """The inverse for paths: the home folder in place of a leading `~`, in every text of such a tree."""
    complete: T = _mapped(value, lambda text: os.path.expanduser(text) if text == "~" or text.startswith("~/") else text)
    return complete


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_mapped(key, change): _mapped(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_mapped(item, change) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    return value


def _redact(text: str) -> str:
    if (home := _home(os.environ.get("HOME"))) is not None:
        text = home.sub("~", text)
    key = os.environ.get("WANDB_API_KEY")
    return text.replace(key, "<key>") if key else text


@functools.cache
def _home(_: str | None) -> re.Pattern[str] | None:
    """What matches the home folder however it is spelt; None where there is none, or it is /, as in some containers."""
    try:
        home = Path.home()
    except RuntimeError:  # a user without an entry, in a container
        return None
    spellings = {str(home), os.path.realpath(home)}
    try:  # HOME may be the place that the user's own entry links to
        entry = pwd.getpwuid(os.getuid()).pw_dir
        if os.path.samefile(entry, home):
            spellings.add(entry)
    except (KeyError, OSError):
        pass
    # File systems differ in how they keep an accented letter: as one character or as two.
    forms = {unicodedata.normalize(form, spelling) for spelling in spellings for form in ("NFC", "NFD")} | spellings
    absolute = sorted((form for form in forms if form.startswith("/") and len(form) > 1), key=len, reverse=True)
    if not absolute:
        return None
    return re.compile(rf"(?<![\w.~-])(?:{'|'.join(map(re.escape, absolute))})(?![\w.-])")
