"""A terminal, a pipe or a process that goes away: one line where somebody still reads, the right status, and no run lost."""

import contextlib
import io
import os
import pty
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from conftest import ROOT
from support.forks import Forks

from ddpm_lab.cli.main import main
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime import terminal as console

BRIEF = [
    "train.images=320", "train.samples_every=null", "train.checkpoint_every=null", "evaluate.every=null", "evaluate.n=8",
    "sampling.steps=2", "evaluate.features=[]",
]  # fmt: skip


def test_a_pipe_that_nobody_reads_costs_the_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", buffering=1)
    monkeypatch.setattr(sys, "stderr", stream)
    assert main(["list", "loses"]) == 2
    assert os.path.realpath(f"/proc/self/fd/{writer}") == os.devnull, "what children write there goes nowhere"
    stream.close()
    assert main(["list", "loses"]) == 2, "a stream that was closed"


def test_standard_error_that_was_never_open(monkeypatch: pytest.MonkeyPatch) -> None:
    led: list[int] = []
    monkeypatch.setattr(console, "_lead_to_nowhere", led.append)
    monkeypatch.setattr(sys, "stderr", None)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["list", "loses"]) == 2
    assert printed.getvalue() == "", "the error does not turn up among the results"
    assert led == [2], "and no file that is opened later becomes standard error"


def test_a_run_goes_on_when_its_terminal_is_closed(forks: Forks, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = forks.on_terminal(theirs, "run", "smoke", *BRIEF, "--results", tmp_path)
    os.close(theirs)
    said = b""
    while b"run: " not in said:
        said += os.read(ours, 4096)
    os.close(ours)  # the kernel sends SIGHUP, and every write fails from now on
    assert process.wait(120) == 0
    assert (tmp_path / "latest/result.json").is_file()


ENDS = """
import sys
from registry.losses import LOSSES

class Odd(BaseException):
    pass

@LOSSES.register("mine")
def mine(prediction, target):
    "Good for two images."
    if len(prediction) > 2:
        {}
    return (prediction - target) ** 2
"""


@pytest.mark.parametrize(("way", "words"), [("sys.exit(0)", "SystemExit: 0"), ("raise Odd('so')", "Odd: so")])
def test_a_part_that_ends_the_process_in_training_has_failed(way: str, words: str, tmp_path: Path) -> None:
    (file := tmp_path / "mine.py").write_text(ENDS.format(way))
    with contextlib.redirect_stderr(io.StringIO()) as said:
        experiment = [f"{ROOT}/experiments/smoke.yaml", *BRIEF, f"plugins=[{file}]", "loss=mine"]
        assert main(["run", *experiment, "--results", str(tmp_path / "results")]) == 1
    last = said.getvalue().strip().splitlines()[-1]
    assert f"error: plugin '{file}', line 12: {words}" in last
    assert "Traceback" not in said.getvalue()


@pytest.mark.parametrize(
    ("error", "joins", "words"),
    [
        (RuntimeError("[/pytorch/third_party/gloo/transport/tcp/pair.cc:534] Connection closed by peer"), True, "is gone"),
        (dist.DistNetworkError("The client socket has failed to connect\nto any network address"), False, "not to be found"),
    ],
)
def test_a_process_that_dies_early_is_said_in_our_words(
    error: RuntimeError, joins: bool, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The errors as gloo and torch word them, at the two places where they come up."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)

    def join(*_: object, **__: object) -> None:
        if not joins:
            raise error
        distributed._control.append(None)  # type: ignore[arg-type]

    monkeypatch.setattr(distributed, "rendezvous", lambda *_, **__: iter([(None, 0, 2)]))
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(dist, "new_group", join)
    monkeypatch.setattr(distributed, "_control", [])
    with pytest.raises(RuntimeError, match=words) as caught, distributed.processes(torch.device("cpu")):
        raise error
    assert "third_party" not in str(caught.value)
    assert "\n" not in str(caught.value)
