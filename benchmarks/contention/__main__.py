"""Several runs on one machine: images/s of each, as the lab shares the cores, against a thread for each core and a long spin.

python -m benchmarks.contention                 about a quarter of an hour on two cores that are otherwise idle; 8 GB
python -m benchmarks.contention --rounds 3      fewer alternations; the same command resumes

`before` is the lab with libgomp's own spin and train.threads = all cores, as it once was; `now` is the lab as it is, whose runs
choose for themselves when they start. Writes benchmarks/reports/contention/{report.json,report.md}, after every alternation.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from typing import Any

from benchmarks.common import command
from benchmarks.common.reporting import last_report, surroundings
from benchmarks.contention.report import report
from benchmarks.contention.worker import Worker

ROUNDS, SECONDS = 20, 2.0  # alternations; of a measurement
OWN_SPIN = {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}  # what the libraries do when nobody says anything
# Case: how many runs, and the part of a lone run's speed that the slowest of them must have.
TOGETHER = {"alone": (1, 0.98), "two started together": (2, 0.40), "three started together": (3, 0.25)}
LATER = "one started alone, one later"


def _conditions(found: dict[str, Any]) -> list[Any]:
    """What alternations have to share; the report is a change of the checkout itself."""
    environment = found["environment"] | {"commit": str(found["environment"]["commit"]).removesuffix("+changes")}
    return [environment, found["seconds"], found["threads"], found["spin"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"alternations (default: {ROUNDS})")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of a measurement (default: {SECONDS:g})")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as results:
        cases = start(results)
        found = {
            "environment": surroundings(), "seconds": arguments.seconds, "date": time.strftime("%Y-%m-%d"), "rounds": [],
            "threads": {f"{case}, {arm}": [one.about["threads"] for one in own] for (case, arm), own in cases.items()},
            "spin": {arm: cases["alone", arm][0].about["spin"] for arm in ("before", "now")},
        }  # fmt: skip
        known = last_report("contention")
        if known and _conditions(known) == _conditions(found):
            found["rounds"] = known["rounds"]
        while len(found["rounds"]) < arguments.rounds:
            rates = {f"{case}, {arm}": measure(own, arguments.seconds) for (case, arm), own in cases.items()}
            found["rounds"].append(rates)
            words = "; ".join(f"{key} {' + '.join(f'{rate:.0f}' for rate in own)}" for key, own in rates.items())
            print(f"round {len(found['rounds'])} of {arguments.rounds}, images/s: {words}", flush=True)
            report(found, {case: mark for case, (_, mark) in TOGETHER.items()} | {LATER: None})
        for worker in {id(worker): worker for own in cases.values() for worker in own}.values():
            worker.close()


def start(results: str) -> dict[tuple[str, str], list[Worker]]:
    """The runs of each case, before and now: those of a case start while no others count."""
    found = {}
    cores = f"train.threads={len(os.sched_getaffinity(0))}"
    old = [Worker(results, [cores], OWN_SPIN).ready() for _ in range(3)]
    for worker in old:
        worker.tell("leave")
    for case, (count, _) in TOGETHER.items():
        found[case, "before"] = old[:count]
        workers = [Worker(results, [], {}) for _ in range(count)]
        found[case, "now"] = [worker.ready() for worker in workers]
        if case == "alone":
            (first,) = workers
            late = Worker(results, [], {}).ready()
            found[LATER, "before"], found[LATER, "now"] = old[:2], [first, late]
            workers = [first, late]
        for worker in workers:
            worker.tell("leave")
    return found


def measure(workers: list[Worker], seconds: float) -> list[float]:
    """Images/s of each, while all of them train."""
    for worker in workers:
        worker.tell(f"go {seconds}")
    rates = [worker.answer()["rate"] for worker in workers]
    for worker in workers:
        worker.tell("stop")
    return rates


if __name__ == "__main__":
    command.execute(main)
