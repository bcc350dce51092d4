"""A run of the lab in a process of its own, which trains when it is told to.

python -m benchmarks.contention.worker RESULTS [KEY=VALUE ...]      orders on standard input, JSON on standard output
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RECIPE = "cosine_l2"
WARM_UP = 3  # steps of a new process


class Worker:
    """A run of the lab in a process of its own, built as `ddpm-lab run` builds it, that trains when it is told to."""

    def __init__(self, results: str, words: list[str], spin: dict[str, str]) -> None:
        command = [sys.executable, "-m", "benchmarks.contention.worker", results, *words]
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
        """What it says next."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"contention: a run ended with {self._process.wait()}; its own message is above")
        return json.loads(line)  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve(results: str, words: list[str]) -> None:
    """The other end of a `Worker`: it trains as it is told on standard input, until that ends."""
    from ddpm_lab.runtime import live_runs

    with live_runs.announced():
        from ddpm_lab.config.load import load_recipe
        from ddpm_lab.runner.run import begin
        from ddpm_lab.runtime.device import pick_device

        recipe = load_recipe(RECIPE, [*words, "train.images=100000000", "evaluate.features=[]", "track=none"])
        trainer = begin(recipe, Path(results), pick_device("cpu"), resume=False).trainer
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


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
