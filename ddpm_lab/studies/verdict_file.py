"""`results/verdicts.jsonl`: every verdict that was begun, with all that it rests on; the last line about a question counts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ddpm_lab.runtime.console import Shown, aligned, clock, say
from ddpm_lab.runtime.environment import Environment
from ddpm_lab.storage.json_text import to_json
from ddpm_lab.storage.locks import locked
from ddpm_lab.storage.measurement import Interval, Word, plain
from ddpm_lab.studies.decision import counted, times
from registry.errors import BadInput
from registry.files import ROWS, read_text

BEGUN, FAILED = "begun", "failed"
FOUND = ("better", "worse")
VERSION = 1  # of these records


@dataclass(frozen=True)
class PairRecord:
    """Two values from one seed."""

    seeds: tuple[int, int]
    runs: tuple[str, str]
    values: tuple[float, float]
    ratio: float  # B / A

    @property
    def named(self) -> str:
        """Its seed, or its two."""
        one, other = self.seeds
        return f"{one}" if one == other else f"{one}, {other}"


@dataclass(frozen=True, repr=False)
class Verdict(Shown):
    """What was asked and what the pairs said."""

    question: str
    outcome: str  # better, worse, no difference, undecided; begun, failed
    text: str  # the sentence
    a: str  # the words that were given
    b: str
    differs: Mapping[str, tuple[Any, Any]]  # a key, and its values in A and B
    metric: str
    margin: float
    alpha: float
    most: int  # pairs that were allowed
    date: str
    budget: str | None = None
    ratio: float | None = None
    interval: Interval | None = None
    needed: int | None = None
    pairs: tuple[PairRecord, ...] = ()
    fingerprint: str = ""
    generation: tuple[Mapping[str, Word], ...] = ()  # of A and B, without the seed
    others: Mapping[str, tuple[float, float]] | None = None  # means of the other metrics
    costs: Mapping[str, tuple[float | None, float | None]] | None = None
    seconds: float = 0.0  # of all runs
    environment: Environment | None = None  # of A's first run
    version: int = VERSION

    def lines(self) -> Iterator[str]:
        """The sentence, and below it the pairs, the other metrics and the costs."""
        yield self.text
        if not self.pairs:
            return
        yield ""
        pairs = [[one.named, f"{one.values[0]:.4g}", f"{one.values[1]:.4g}", times(one.ratio)] for one in self.pairs]
        yield from aligned([["seed", f"{self.metric} of A", "of B", "B / A"], *pairs])
        yield ""
        rows = [[name, *(f"{value:.4g}" for value in values)] for name, values in (self.others or {}).items()]
        costs = self.costs or {}
        for key, name in (("parameters", "parameters"), ("flops_per_image", "FLOP per image, forward")):
            rows.append([name, *("" if value is None else f"{value:,.0f}" for value in costs.get(key, ()))])
        for key, name in (("training_in_all", "training"), ("seconds", "all that was run for it")):
            rows.append([name, *("" if value is None else clock(value) for value in costs.get(key, ()))])
        yield from aligned([["means, without a verdict", "A", "B"], *rows])


_VERDICT = TypeAdapter(Verdict)


def read(results: Path) -> list[Verdict]:
    """The verdicts of a results folder, in the order in which they were begun.

    Raises:
        BadInput: the file cannot be read. A line that is damaged is left out, and said so.
    """
    file = _file(results)
    if not os.path.lexists(file):
        return []
    found: dict[str, Verdict] = {}
    for number, line in enumerate(read_text(file, ROWS).splitlines(), 1):
        try:
            one = _VERDICT.validate_json(line)
        except (ValueError, RecursionError):
            say(f"warning: {file}: line {number} is damaged, and left out")
            continue
        if one.version > VERSION:
            raise BadInput(f"{file}: of version {one.version}; this ddpm_lab reads up to {VERSION}, so take a newer one")
        found[one.question] = one
    return list(found.values())


def keep(results: Path, verdict: Verdict) -> None:
    """Add it, unless it says what the last one of its question says.

    Raises:
        BadInput: the file cannot be written.
    """
    file = _file(results)
    try:
        with locked(results / "verdicts" / ".lock"):
            last = next((one for one in read(results) if one.question == verdict.question), None)
            if last and (verdict.outcome == BEGUN or (last.outcome, last.pairs) == (verdict.outcome, verdict.pairs)):
                return
            with open(file, "ab+") as stream:
                if stream.tell() and not _ends_well(file):
                    stream.write(b"\n")  # after a line that a killed process left
                stream.write((to_json(plain(verdict)) + "\n").encode())
                stream.flush()
                os.fsync(stream.fileno())
    except OSError as error:
        raise BadInput(f"--results: {file} cannot be written ({error.strerror}); name a folder that can") from None


def place(results: Path, question: str) -> str:
    """`verdict 3 of 7`, and what so many tries mean."""
    known = read(results)
    number = next((number for number, one in enumerate(known, 1) if one.question == question), len(known))
    return f"verdict {number} of {len(known)} in {_file(results)}; {_chance(known)}"


def lines(verdicts: Sequence[Verdict], results: Path) -> Iterator[str]:
    """The list of `ddpm-lab verdicts`."""
    if not verdicts:
        yield f"no verdict in {_file(results)}; `ddpm-lab verdict A B` makes one"
        return
    rows = [[str(number), one.date[:10], one.a, _changes(one), one.metric, one.text] for number, one in enumerate(verdicts, 1)]
    yield from aligned([["", "date", "A", "A -> B", "metric", "verdict"], *rows])
    found = sum(one.outcome in FOUND for one in verdicts)
    yield f"{counted(len(verdicts), 'verdict')}, {found} of them a difference; {_chance(verdicts)}"


def _changes(verdict: Verdict) -> str:
    """In what B differs from A."""
    return ", ".join(f"{key}: {old} -> {new}" for key, (old, new) in verdict.differs.items())


def _chance(verdicts: Sequence[Verdict]) -> str:
    """What so many tries mean: each is wrong with probability alpha at most."""
    return f"of so many, up to {sum(one.alpha for one in verdicts):.2g} are expected to be wrong by chance"


def _file(results: Path) -> Path:
    return results / "verdicts.jsonl"


def _ends_well(file: Path) -> bool:
    with open(file, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read() == b"\n"
