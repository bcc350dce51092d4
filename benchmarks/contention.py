"""Several runs on one machine: images/s of each, as the lab shares the cores, against a thread for each core and a long spin.

make bench-contention                   about a quarter of an hour on two cores that are otherwise idle; ten processes, 8 GB
make bench-contention ROUNDS=3          fewer alternations; the same command goes on where it was stopped

`before` is the lab with libgomp's own spin and train.threads = all cores, as it once was; `now` is the lab as it is, whose runs
choose for themselves when they start. Writes benchmarks/reports/contention/{report.json,report.md}, after every alternation.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPORT = Path("benchmarks/reports/contention")
RECIPE = "cosine_l2"
ROUNDS, SECONDS, WARM_UP = 20, 2.0, 3  # alternations; of a measurement; steps of a new process
RESAMPLES = 10_000
OWN_SPIN = {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}  # what the libraries do when nobody says anything
# Case: how many runs, and the part of a lone run's speed that the slowest of them must have.
TOGETHER = {"alone": (1, 0.98), "two started together": (2, 0.40), "three started together": (3, 0.25)}
LATER = "one started alone, one later"


class Worker:
    """A run of the lab in a process of its own, built as `ddpm-lab run` builds it, that trains when it is told to."""

    def __init__(self, results: str, words: list[str], spin: dict[str, str]) -> None:
        command = [sys.executable, os.fspath(Path(__file__)), "--worker", results, *words]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | spin | {"WANDB_MODE": "disabled"},
        )
        self.about: dict[str, Any] = {}

    def ready(self) -> Worker:
        """Once it has chosen its threads and is warm; `about` says what it has."""
        self.about = self.answer()
        return self

    def tell(self, word: str) -> None:
        """`go SECONDS`, `stop` after that, or `leave`: it no longer counts as a run at work."""
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What it found."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"contention: a run ended with {self._process.wait()}; its own words stand above")
        return json.loads(line)  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve(results: str, words: list[str]) -> None:
    """The other end of a `Worker`."""
    from ddpm_lab.runtime import live_runs

    with live_runs.announced():
        from ddpm_lab.config.load import load_recipe
        from ddpm_lab.runner.run import Execution
        from ddpm_lab.runtime.device import pick_device

        recipe = load_recipe(RECIPE, [*words, "train.images=100000000", "evaluate.features=[]", "track=none"])
        trainer = Execution(recipe, Path(results), pick_device("cpu"), resume=False).trainer
        trainer.network.train()
        import torch

        batch = recipe.experiment.train.batch
        for _ in range(WARM_UP):
            trainer.step(trainer.batch(trainer.images // batch))
        print(json.dumps({"threads": torch.get_num_threads(), "spin": os.environ.get("GOMP_SPINCOUNT")}), flush=True)
        sys.stdin.readline()  # leave
    while line := sys.stdin.readline():
        trainer.step(trainer.batch(trainer.images // batch))
        start, seconds, first = time.monotonic(), float(line.split()[1]), trainer.images
        told = False
        # It trains on until all have been measured, so that each has had the others beside it all the time.
        while not (told and select.select([sys.stdin], [], [], 0)[0]):
            trainer.step(trainer.batch(trainer.images // batch))
            if not told and (spent := time.monotonic() - start) >= seconds:
                print(json.dumps({"rate": (trainer.images - first) / spent}), flush=True)
                told = True
        sys.stdin.readline()  # stop


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


def ratio_with_interval(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Of the medians, with a 95 % percentile bootstrap over the alternations, which both share."""
    import numpy as np

    pairs = np.array([ours, theirs])
    chosen = np.random.default_rng(0).integers(0, pairs.shape[1], (RESAMPLES, pairs.shape[1]))
    ratios = np.divide(*np.median(pairs[:, chosen], axis=2))
    low, high = np.quantile(ratios, (0.025, 0.975))
    return {"ratio": float(np.divide(*np.median(pairs, axis=1))), "low": float(low), "high": float(high)}


def report(found: dict[str, Any]) -> None:
    """What the alternations so far come to."""
    from measure import spread
    from reporting import write_report

    rounds = found["rounds"]
    # The slowest run of each alternation: the mark holds for each of them.
    least = {key: [min(rates) for rates in (one[key] for one in rounds)] for key in rounds[0]}
    rows = []
    for case, mark in [*((case, mark) for case, (_, mark) in TOGETHER.items()), (LATER, None)]:
        before, now = (least[f"{case}, {arm}"] for arm in ("before", "now"))
        base = least["alone, before"]
        rows.append({
            "case": case, "mark": mark, "threads": found["threads"][f"{case}, now"], "before": spread(before),
            "now": spread(now), "of_alone_before": ratio_with_interval(before, base),
            "of_alone": ratio_with_interval(now, base), "gain": ratio_with_interval(now, before),
        })  # fmt: skip
    write_report(REPORT, "contention.md.jinja", found | {"rows": rows, "n": len(rounds)})


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
        from reporting import surroundings

        found = {
            "environment": surroundings(), "seconds": arguments.seconds, "date": time.strftime("%Y-%m-%d"), "rounds": [],
            "threads": {f"{case}, {arm}": [one.about["threads"] for one in own] for (case, arm), own in cases.items()},
            "spin": {arm: cases["alone", arm][0].about["spin"] for arm in ("before", "now")},
        }  # fmt: skip
        file = REPORT / "report.json"
        known = json.loads(file.read_text()) if file.is_file() else {}
        if known and _conditions(known) == _conditions(found):
            found["rounds"] = known["rounds"]
        while len(found["rounds"]) < arguments.rounds:
            rates = {f"{case}, {arm}": measure(own, arguments.seconds) for (case, arm), own in cases.items()}
            found["rounds"].append(rates)
            words = "; ".join(f"{key} {' + '.join(f'{rate:.0f}' for rate in own)}" for key, own in rates.items())
            print(f"round {len(found['rounds'])} of {arguments.rounds}, images/s: {words}", flush=True)
            report(found)
        for worker in {id(worker): worker for own in cases.values() for worker in own}.values():
            worker.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        serve(sys.argv[2], sys.argv[3:])
    else:
        main()
