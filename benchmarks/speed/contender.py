"""One program of the contest in a process of its own, so that none shares another's memory, threads or settings.

python -m benchmarks.speed.contender NAME      orders as lines of JSON on standard input, outcomes on standard output
"""

import time

BORN = time.perf_counter()

import contextlib  # noqa: E402 - the clock comes first
import json  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402

COUNT = 4  # images of the first sample


class Contender:
    """A handle on such a process."""

    def __init__(self, name: str) -> None:
        """Waits until it has trained a step and sampled its first images."""
        self.name = name
        command = [sys.executable, "-m", "benchmarks.speed.contender", name]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "WANDB_MODE": "disabled"}
        )
        self.about = self._answer()

    def __call__(self, order: str, *numbers: int) -> dict[str, Any]:
        """`("train", steps)`, `("sample", count, steps)` or `("memory",)`; what it took."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([order, *numbers]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: it ended with {self._process.wait()}; its own message is above")
        return json.loads(line)  # type: ignore[no-any-return]


def _timed(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def serve(name: str) -> None:
    """Until standard input ends. Whatever the program prints goes to standard error."""
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        import torch

        from benchmarks import peers
        from benchmarks.common.timing import forward_flops
        from ddpm_lab.runtime.host import peak_gigabytes

        kind = peers.kind(name)
        imported = time.perf_counter() - BORN
        torch.manual_seed(0)
        program = kind()
        program.train(1)
        stepped = time.perf_counter() - BORN
        first_sample = _timed(lambda: program.sample(COUNT, min(program.steps, 50)))
        network = program.network
        about = {
            "title": kind.title, "settings": kind.settings, "batch": kind.batch, "steps": kind.steps,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "flops": forward_flops(network.eval(), program.inputs(2), 2), "seconds_to_import": imported,
            "seconds_to_first_step": stepped, "seconds_of_first_sample": first_sample,
            "precision": getattr(program, "precision", "fp32"), "threads": torch.get_num_threads(),
        }  # fmt: skip
        print(json.dumps(about), file=answers, flush=True)
        for line in sys.stdin:
            order, *numbers = json.loads(line)
            if order == "memory":
                answer = {"gigabytes": peak_gigabytes(torch.device("cpu"))}
            else:
                answer = {"seconds": _timed(lambda: getattr(program, order)(*numbers))}  # noqa: B023 - called at once
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
