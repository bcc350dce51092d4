"""Is B better than A? Both are trained on the same seeds, in pairs, until the pairs tell."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

from ddpm_lab.runtime.console import say
from ddpm_lab.runtime.device import pick_device
from ddpm_lab.runtime.host import pick_threads
from ddpm_lab.storage.locks import take_lock
from ddpm_lab.storage.measurement import difference
from ddpm_lab.storage.results_folder import require_place, with_id
from ddpm_lab.studies import verdict_file
from ddpm_lab.studies.commands import Lab
from ddpm_lab.studies.decision import Decision, times
from ddpm_lab.studies.pairs import Failed, Sample, Work
from ddpm_lab.studies.preparation import examine
from ddpm_lab.studies.question import Question
from ddpm_lab.studies.verdict_file import BEGUN, FAILED, Verdict
from ddpm_lab.studies.verdict_record import compose
from registry.errors import BadInput

POLL = 1.0  # seconds between two looks at what other processes have done
AHEAD = 2  # pairs that are worked on at once, where several processes work on a verdict
Pair = tuple[Sample, Sample]


def decide(question: Question, results: Path, device: str | None, most: int, minutes: float | None) -> Verdict:
    """What is left of a verdict done, after both recipes were tried: what `ddpm-lab verdict` does.

    Raises:
        BadInput: a part cannot be built, or the folder cannot be read or written.
        Interrupted, Failed: as `Trial.execute` does.
    """
    for side in (question.a, question.b):
        require_place(results, side.recipe.name)
    verdict_file.read(results)  # one that cannot be read is found out now
    for line in list(examine(question, pick_device(device))):
        say(line)
    return Trial(question, results, device, most, minutes).execute()


class Trial:
    """The pairs of a question; several processes may work on one, and each of them comes to the same verdict."""

    def __init__(self, question: Question, results: Path, device: str | None, most: int, minutes: float | None) -> None:
        """At most so many pairs; none is begun that would last beyond so many minutes."""
        self.question, self.results, self.device, self.most, self.minutes = question, results, device, most, minutes
        self.works = [
            (Work(question, question.a, number, results, device), Work(question, question.b, number, results, device))
            for number in range(most)
        ]
        self.pairs: list[Pair] = []

    def execute(self) -> Verdict:
        """Work until the pairs tell, or there are enough of them, or the time is over; the verdict is kept.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the same command goes on.
            Failed: a run ended without a value.
            BadInput: the folder cannot be written, or two values were not measured alike.
        """
        try:
            (self.results / "verdicts").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"--results: {self.results} cannot be written ({error.strerror}); name a folder that can") from None
        self._keep(BEGUN, Decision("undecided", 0))
        begun, lab, old = time.monotonic(), Lab(self._threads(), self.device), self._look()
        while True:
            found = self.question.rule.decide([math.log(b.value / a.value) for a, b in self.pairs])
            new = len(self.pairs) - old
            spent = (time.monotonic() - begun) / 60
            over = self.minutes is not None and new > 0 and spent * (new + 1) / new > self.minutes
            if found.outcome != "undecided" or len(self.pairs) == self.most or over:
                return self._keep(found.outcome, found)
            try:
                self._work(lab)
                known = len(self.pairs)
                self._look()
            except Failed as error:
                self._keep(FAILED, found, str(error))
                raise
            for number in range(known, len(self.pairs)):
                self._tell(number)

    def _look(self) -> int:
        """Take in what has been done since; how many pairs there are now, counted up to the first that is not whole."""
        for one, other in self.works[len(self.pairs) :]:
            a, b = one.sample(), other.sample()
            if a is None or b is None:
                break
            self.pairs.append((a, b))
            _require_alike([sample for pair in self.pairs for sample in pair])
        return len(self.pairs)

    def _work(self, lab: Lab) -> None:
        """Do the first piece of work that is neither done nor in the hands of another process; without one, wait a little."""
        for pair in self.works[len(self.pairs) : len(self.pairs) + AHEAD]:
            for work in pair:
                if work.sample() is not None or not work.ready or (lock := take_lock(work.lock)) is None:
                    continue
                try:
                    if work.sample() is None:  # nobody was quicker
                        say(f"pair {work.number + 1} of at most {self.most}: {work}")
                        work.do(lab)
                        work.sample()
                finally:
                    lock.release()
                return
        time.sleep(POLL)

    def _tell(self, number: int) -> None:
        a, b = self.pairs[number]
        found = self.question.rule.decide([math.log(two.value / one.value) for one, two in self.pairs[: number + 1]])
        sure = f" ({times(found.interval[0])} to {times(found.interval[1])})" if found.interval else ", no interval yet"
        mean = f"; so far {times(found.ratio)}{sure}" if found.ratio else ""
        values = f"{a.record.number(a.value)} of A, {b.record.number(b.value)} of B, {times(b.value / a.value)} x"
        say(f"pair {number + 1}: {self.question.metric} {values}{mean}")

    def _keep(self, outcome: str, found: Decision, why: str = "") -> Verdict:
        verdict = compose(self.question, self.most, outcome, found, self.pairs[: found.pairs], why)
        verdict_file.keep(self.results, verdict)
        return verdict

    def _threads(self) -> int:
        """One number for all runs, because it changes their last bits: that of the first run that has begun, else a share."""
        works = (work for pair in self.works for work in pair[: 1 if self.question.shared else 2])
        begun = (
            run.recorded_environment().threads for work in works if (run := with_id(self.results, work.recipe.name, work.id))
        )
        return pick_threads("auto", next((threads for threads in begun if threads), None))


def _require_alike(samples: Sequence[Sample]) -> None:
    first, last = samples[0], samples[-1]
    for other in (last, samples[-2]):
        if other.record.fingerprint != first.record.fingerprint:
            raise BadInput(
                f"{first.run} and {other.run} were not measured alike ({difference(first.record, other.record)}); remove the"
                " older one, and it is made again"
            )
        if other.record.streams != first.record.streams:
            raise BadInput(
                f"{first.run} and {other.run} were sampled with different versions of the random streams"
                f" ({first.record.streams} and {other.record.streams}); remove the older one, and it is made again"
            )
