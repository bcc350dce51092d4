"""The one exception for which the user, not the lab, holds the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BadInput(ValueError):
    """Input that cannot be used. Its text is the one line that the user reads; the command line exits with 2."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


def printable(text: str) -> str:
    """The same in one line, without anything that a terminal would obey: it may quote what a stranger wrote."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def reason(error: BaseException) -> str:
    """What an exception says, in one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def kind_and_reason(error: BaseException) -> str:
    """`ValueError: negative dimension`: the same, with its kind."""
    kind, text = type(error).__name__, reason(error)
    return kind if text == kind else f"{kind}: {text}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'huber'? known: huber, l1, l2`: the tail of every message about an unknown name."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known: {', '.join(names) or 'none'}"
