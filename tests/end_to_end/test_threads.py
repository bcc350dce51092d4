"""Several runs on one machine: how long their threads spin, how many there are, and that these stay what they were."""

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from benchmarks.contention.report import ratio_with_interval
from ddpm_lab.config.load import load_recipe
from ddpm_lab.runner.run import begin
from ddpm_lab.runtime import host, live_runs
from ddpm_lab.runtime.host import pick_threads
from ddpm_lab.studies import suite, suite_file
from ddpm_lab.sweeps import sweep
from ddpm_lab.sweeps.sweep import Sweep
from registry.errors import BadInput

Crowd = Callable[[int], None]
SPIN_WORDS = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY")


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Crowd:
    """`crowd(2)`: two other runs are at work. The machine has 8 cores, and torch would take them all."""
    monkeypatch.setattr(host, "_allowed_cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)

    def call(count: int) -> None:
        monkeypatch.setattr(live_runs, "others", lambda: count)

    return call


def _python(code: str, **words: str) -> "subprocess.CompletedProcess[str]":
    env = {name: value for name, value in os.environ.items() if name not in SPIN_WORDS} | words
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)


def _gnu_library() -> str:
    """The OpenMP of this torch, which can be loaded without all the rest."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    found = [*package.glob("lib/libgomp*.so*"), *package.parent.glob("torch.libs/libgomp*.so*")]
    if not found:
        pytest.skip("this torch has no GNU OpenMP")
    return str(found[0])


@pytest.mark.parametrize("first", ["ddpm_lab", "ddpm_lab.cli.main", "ddpm_lab.__main__", "ddpm_lab.storage.files"])
def test_the_spin_is_short_before_the_library_is_loaded(first: str) -> None:
    """As the library itself says it when it is loaded; its own is 300,000."""
    code = f"import {first}, sys, ctypes; assert 'torch' not in sys.modules; ctypes.CDLL({_gnu_library()!r})"
    said = _python(code, OMP_DISPLAY_ENV="verbose").stderr
    (spin,) = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", said)
    assert 0 < int(spin) < 100_000


def test_what_the_user_has_set_stays() -> None:
    code = f"import ddpm_lab, os; print([os.environ.get(name) for name in {SPIN_WORDS!r}])"
    assert _python(code, OMP_WAIT_POLICY="active").stdout == "[None, None, 'active']\n"
    assert _python(code, GOMP_SPINCOUNT="7", KMP_BLOCKTIME="infinite").stdout == "['7', 'infinite', None]\n"


def test_a_program_that_has_torch_already_is_left_alone() -> None:
    code = f"import sys; sys.modules['torch'] = sys; import ddpm_lab, os; print([*{{*{SPIN_WORDS!r}}} & {{*os.environ}}])"
    assert _python(code).stdout == "[]\n"


def test_a_run_is_seen_from_before_torch_until_its_process_ends_however_it_ends() -> None:
    code = """if True:
        import sys, time
        from ddpm_lab.runtime import live_runs
        with live_runs.announced(), live_runs.announced():
            assert "torch" not in sys.modules
            assert live_runs._mine[0] in live_runs.at_work()
            print(live_runs._mine[0], flush=True)
            time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        token = other.stdout.readline().strip()
        assert live_runs.at_work()[token] == sum(1 << core for core in os.sched_getaffinity(other.pid))
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert token not in live_runs.at_work()


def test_others_are_the_runs_on_the_same_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A job that has other cores of the machine to itself, as a cluster deals them out, is nobody's neighbour."""
    table = tmp_path / "unix"
    names = [f"@ddpm_lab-run-{number:016x}-{cores}" for number, cores in enumerate(("3", "c", "f", "", "2"))]
    lines = [f"0000000000000000: 00000002 00000000 00000000 0002 01 1234{name and ' ' + name}" for name in (*names, "", "/x")]
    table.write_text("Num       RefCount Protocol Flags    Type St Inode Path\n" + "\n".join(lines) + "\n")
    monkeypatch.setattr(live_runs, "SOCKETS", table)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(live_runs, "_mine", [f"{4:016x}"])
    assert live_runs.others() == 3  # not the second, which has cores 2 and 3, and not its own
    monkeypatch.setattr(live_runs, "SOCKETS", tmp_path / "none")
    assert live_runs.others() == 0


def test_a_machine_without_such_sockets_costs_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError("no sockets here")

    monkeypatch.setattr(socket, "socket", refuse)
    with live_runs.announced():
        pass


def test_auto_is_a_share_of_the_cores(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    for others, threads in ((0, 8), (1, 4), (2, 2), (7, 1), (30, 1)):
        crowd(others)
        assert pick_threads("auto") == threads
    crowd(3)
    assert pick_threads(6) == 6  # said by the user
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # OMP_NUM_THREADS
    assert pick_threads("auto") == 1


def test_processes_of_one_run_share_its_share(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "here"}
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    crowd(1)
    assert pick_threads("auto") == 2


def test_what_was_chosen_stays(crowd: Crowd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    crowd(0)
    assert pick_threads("auto", recorded=3) == 3
    assert not capsys.readouterr().err
    crowd(3)
    assert pick_threads("auto", recorded=6) == 6
    assert "warning: 6 threads" in capsys.readouterr().err
    assert pick_threads("auto", recorded=64) == 8
    assert "not the 64 that it started with" in capsys.readouterr().err
    monkeypatch.setenv(live_runs.FIXED, "5")
    assert pick_threads("auto") == 5
    assert pick_threads("auto", recorded=3) == 3
    monkeypatch.setenv(live_runs.FIXED, "0")
    with pytest.raises(BadInput, match="DDPM_LAB_THREADS: '0'"):
        pick_threads("auto")


def test_a_run_keeps_its_threads_when_it_is_resumed(crowd: Crowd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begun beside another run with a half of the cores, it goes on alone with no more; a new run has them all."""
    now = [8]
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: now.__setitem__(0, count))
    recipe = load_recipe("smoke", ["evaluate.features=[]"])

    def threads(others: int, *, resume: bool) -> int:
        now[0] = 8
        crowd(others)
        run = begin(recipe, tmp_path, torch.device("cpu"), resume)
        run.folder.release()  # as if its process had been killed
        assert json.loads(run.folder.environment.read_text())["threads"] == now[0]
        return now[0]

    assert threads(1, resume=False) == 4
    assert threads(0, resume=True) == 4
    assert threads(0, resume=False) == 8


def test_the_trials_of_a_sweep_have_one_number_of_threads(
    crowd: Crowd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "POLL", 0.05)
    note = f"import os; open({str(tmp_path / 'told')!r}, 'a').write(os.environ['DDPM_LAB_THREADS'] + ' ')"
    plan = {
        "method": "grid", "metric": {"name": "loss", "goal": "minimize"}, "parameters": {"seed": {"values": [0]}},
        "program": "ddpm-lab", "command": ["${interpreter}", "-c", note, "${args_no_hyphens}"],
    }  # fmt: skip
    file = tmp_path / "small.yaml"
    file.write_text(json.dumps(plan))
    crowd(1)
    Sweep(str(file), [], None, tmp_path / "results", None)
    crowd(0)  # whoever goes on with it finds another machine than the one who began it
    Sweep(str(file), [], None, tmp_path / "results", None).execute()
    assert (tmp_path / "told").read_text() == "4 "


def test_the_runs_of_a_suite_have_one_number_of_threads(crowd: Crowd, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    plan = {"about": "A test.", "experiments": ["smoke"], "seeds": [0, 1], "metrics": ["FID"]}
    file.write_text(json.dumps(plan))
    cells = suite_file.cells(suite_file.read(file), file)
    crowd(1)
    assert suite.threads_of(cells, tmp_path) == 4
    begun = tmp_path / "smoke" / f"20260101-000000-{cells[1].id}"
    begun.mkdir(parents=True)
    (begun / "resolved.yaml").touch()
    (begun / "environment.json").write_text('{"threads": 6}')
    crowd(0)
    assert suite.threads_of(cells, tmp_path) == 6


def test_the_contention_table_compares_what_was_measured_in_the_same_alternation() -> None:
    """Half as fast in each of them is half as fast for certain, however the machine's mood changed between them."""
    moods = [10.0, 90.0, 30.0, 70.0, 50.0]
    exact = ratio_with_interval([mood / 2 for mood in moods], moods)
    assert exact == {"ratio": 0.5, "low": 0.5, "high": 0.5}
    loose = ratio_with_interval(moods, moods[::-1])
    assert loose["low"] < loose["ratio"] == 1 < loose["high"]
