"""What a user sees while a command runs: a bar on a terminal, plain lines elsewhere; tables; durations."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Iterator, Sequence
from types import TracebackType

from tqdm import tqdm

from ddpm_lab.runtime.launcher import is_main
from ddpm_lab.runtime.redaction import discreet

LINE_EVERY = 5.0  # seconds, at least, between two lines; and a hundredth of the whole, so that a night is a hundred lines


class _Bar(tqdm):  # type: ignore[type-arg]
    """A bar without the thread that tqdm keeps beside its bars, and leaves behind."""

    monitor_interval = 0


class Progress:
    """Counts images: `12,800/60,000 images, 412 images/s, 1:54 left, loss 0.0712`."""

    def __init__(self, what: str, total: int, done: int = 0, *, passing: bool = False) -> None:
        """`passing`: nothing is left of it on the screen once it is finished."""
        self.what, self.total, self.done, self.passing = what, total, done, passing
        self._first, self._start, self._spoken, self._percent = done, time.monotonic(), time.monotonic(), self._whole_percent()
        self._bar: _Bar | None = None
        self._silent = not is_main()
        if not self._silent and (sys.stderr.isatty() or _in_a_notebook()):
            width = f"{what:<10} {{percentage:3.0f}}%|{{bar}}| {{n:,.0f}}/{{total:,.0f}} images"
            self._bar = _Bar(
                total=total, initial=done, leave=not passing, dynamic_ncols=True, file=sys.stderr,
                bar_format=width + " [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]", unit=" images",
            )  # fmt: skip

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None and not self.passing:
            self._line(f"{self._rate():,.0f} images/s")

    def advance(self, count: int, note: str = "") -> None:
        """`count` more are done; `note` is shown behind, such as the loss."""
        self.done += count
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif self._due():
            self._spoken, self._percent = time.monotonic(), self._whole_percent()
            left = (self.total - self.done) / max(self._rate(), 1e-9)
            self._line(f"{self._rate():,.0f} images/s, {_clock(left)} left{', ' if note else ''}{note}")

    def pause(self, seconds: float) -> None:
        """Leave out a time that was spent on something else."""
        self._start += seconds
        if self._bar is not None:
            self._bar.start_t += seconds

    def _due(self) -> bool:
        return (
            self.done < self.total and self._whole_percent() > self._percent and time.monotonic() - self._spoken >= LINE_EVERY
        )

    def _whole_percent(self) -> int:
        return 100 * self.done // max(self.total, 1)

    def _rate(self) -> float:
        return (self.done - self._first) / max(time.monotonic() - self._start, 1e-9)

    def _line(self, text: str) -> None:
        if self._silent:
            return
        print(f"{self.what:<10} {self.done:,}/{self.total:,} images, {text}", file=sys.stderr, flush=True)


def _in_a_notebook() -> bool:
    """Whether standard error is shown in a notebook: no terminal, and carriage returns work all the same."""
    return type(sys.stderr).__module__.partition(".")[0] == "ipykernel"


def say(text: str) -> None:
    """A line for the user, above any bar; the main process speaks for all."""
    if not is_main():
        return
    tqdm.write(discreet(text), file=sys.stderr)
    sys.stderr.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    return f"{minutes}:{rest:02d}"


class Shown:
    """What Python shows as the command line prints it, a notebook too."""

    def lines(self) -> Iterator[str]:
        """What the command line prints."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The rows as lines, each column as wide as its longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def clock(seconds: float) -> str:
    """`4 min 10 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
