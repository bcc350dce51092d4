"""Commands of the lab in processes of their own that need not import torch: each is a fork of one that has.

    python forks.py          serves the listening socket that is its standard input
    python forks.py WORDS    `ddpm-lab WORDS` by such a fork, for a program that starts the command by its name

A connection to the socket is a command: its words, folder, environment, whether it leads a session, and three open files. It
is answered by the process's number, and when that has ended by its exit status. What is forked has computed nothing before,
so no thread is lost by the fork; nor has a command that starts others (a suite, a sweep, a verdict), so these are forks of
it. What only a fresh interpreter shows (what is imported, what is set before torch loads) is tested with `python -m ddpm_lab`.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import fcntl
import gc
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, NoReturn

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "DDPM_LAB_TESTS_FORKS"  # the variable that says where the server listens
ONE_PROCESS = "one_process.py"  # in place of a command: the process that runs one after the other
PARENT_POLL = 5.0  # seconds between two looks whether the tests are still there


class Process:
    """What `subprocess.Popen` is for a program: a command that runs."""

    def __init__(
        self, words: Sequence[str], cwd: Path, env: Mapping[str, str], leads: bool, files: Sequence[int], *read: IO[str]
    ) -> None:
        """`files` are its standard input, output and error, closed here; the last two are `read` as `stdout` and `stderr`."""
        self._answers = socket.socket(socket.AF_UNIX)
        self._answers.connect(os.environ[ADDRESS])
        order = json.dumps([list(words), str(cwd), dict(env), leads]).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
        self._answers.sendmsg([len(order).to_bytes(4, "little")], rights)
        self._answers.sendall(order)
        for file in files:
            os.close(file)
        self.args = ["ddpm-lab", *words]
        self.returncode: int | None = None
        self.stdout, self.stderr = read
        self.pid = _received(self._answers)

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._ended_within(0)

    def wait(self, timeout: float = 300) -> int:
        """The exit status once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not.
        """
        if (status := self._ended_within(timeout)) is None:
            self.kill()
            raise subprocess.TimeoutExpired(self.args, timeout)
        return status

    def _ended_within(self, seconds: float) -> int | None:
        if self.returncode is None and select.select([self._answers], [], [], seconds)[0]:
            self.returncode = _received(self._answers)
            self._answers.close()
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """What it wrote, once it has ended."""
        said: dict[str, str] = {}

        def read(name: str, stream: IO[str]) -> None:
            with stream:
                said[name] = stream.read()

        readers = [threading.Thread(target=read, args=pair) for pair in (("out", self.stdout), ("err", self.stderr))]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join()
        return said["out"], said["err"]

    def send_signal(self, signum: int) -> None:
        """Nothing happens where it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forks:
    """Processes by the server at the address that the environment names."""

    def start(
        self, *words: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None, aloud: bool = False,
        start_new_session: bool = False,
    ) -> Process:  # fmt: skip
        """A command of the lab, begun. Its output is that of this process where it is `aloud`, else read from it."""
        (from_out, out), (from_err, err) = (_end_of(number, aloud) for number in (1, 2))
        files, read = (
            (os.open(os.devnull, os.O_RDONLY), out, err),
            (os.fdopen(end, errors="replace") for end in (from_out, from_err)),
        )
        return Process([*map(str, words)], cwd, {**os.environ, **(env or {})}, start_new_session, files, *read)

    def on_terminal(self, terminal: int, *words: str | Path) -> Process:
        """A command that leads the session of that terminal."""
        nothing = (os.fdopen(os.open(os.devnull, os.O_RDONLY)) for _ in range(2))
        return Process([*map(str, words)], ROOT, os.environ, True, [os.dup(terminal) for _ in range(3)], *nothing)

    def program(self, folder: Path) -> Path:
        """`ddpm-lab` in that folder: for what starts the command by its name."""
        folder.mkdir(parents=True)
        (file := folder / "ddpm-lab").write_text(f"#!/bin/sh\nexec '{sys.executable}' '{__file__}' \"$@\"\n")
        file.chmod(0o755)
        return file

    def in_place_of_python(self, command: Sequence[str], env: Mapping[str, str], **_: object) -> Process:
        """What `subprocess.Popen` would do with `python -m ddpm_lab ...`: for what starts commands of the lab itself."""
        assert command[:3] == [sys.executable, "-m", "ddpm_lab"]
        return self.start(*command[3:], cwd=Path.cwd(), env=env, aloud=True)

    def one_process(self, env: Mapping[str, str]) -> tuple[Process, IO[str]]:
        """The process that runs one command after the other, and where it is told them."""
        (theirs, ours), (from_out, out) = os.pipe(), os.pipe()
        files, read = (theirs, out, os.dup(2)), (os.fdopen(from_out), os.fdopen(os.open(os.devnull, os.O_RDONLY)))
        return Process([ONE_PROCESS], ROOT, {**os.environ, **env}, False, files, *read), os.fdopen(ours, "w")


class Child:
    """What `subprocess.Popen` is for a command that another starts, which is a fork of that one here."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], preexec_fn: Callable[[], None]) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.closerange(3, 1024)  # what is open there is locked for the other process alone
            preexec_fn()
            status = _status(command[3:], env)
            sys.stdout.flush()
            os._exit(status)  # past what the other process would do at its end

    def poll(self) -> int | None:
        return self._ended(os.WNOHANG)

    def wait(self) -> int | None:
        return self._ended(0)

    def _ended(self, how: int) -> int | None:
        if self.returncode is None and (ended := os.waitpid(self.pid, how))[0]:
            self.returncode = os.waitstatus_to_exitcode(ended[1])
        return self.returncode

    def terminate(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)


def _started(
    command: Sequence[str], *, env: Mapping[str, str], preexec_fn: Callable[[], None], stdin: int | None = None
) -> object:
    """A command of the lab that another starts; standard input is nothing for all of them."""
    if [*command[:3]] == [sys.executable, "-m", "ddpm_lab"]:
        return Child(command, env, preexec_fn)
    return subprocess.Popen(command, env=env, preexec_fn=preexec_fn, stdin=stdin)


class Server:
    """The process that is forked: one for all tests. It imports nothing before the first of them asks for a fork."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="ddpm_lab-tests-")
        self.address = f"{self._folder}/socket"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.address)
        self._listener.listen(64)
        env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "WANDB_MODE": "disabled"}
        self._process = subprocess.Popen([sys.executable, __file__], stdin=self._listener, env=env)

    def close(self) -> None:
        """No more orders; what runs goes on."""
        self._listener.shutdown(socket.SHUT_RDWR)  # which wakes who waits for it
        self._process.wait(60)
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _end_of(number: int, aloud: bool) -> tuple[int, int]:
    """What to read and what to write: the ends of a pipe, or nothing and an open file of this process."""
    return (os.open(os.devnull, os.O_RDONLY), os.dup(number)) if aloud else os.pipe()


def _sent(number: int, answers: socket.socket) -> None:
    with contextlib.suppress(BrokenPipeError):  # who asked may be gone
        answers.sendall(struct.pack("<i", number))


def _received(answers: socket.socket) -> int:
    return int(struct.unpack("<i", answers.recv(4, socket.MSG_WAITALL))[0])


def _serve() -> NoReturn:
    listener, tests = socket.socket(fileno=0), os.getppid()
    while os.getppid() == tests:
        if not select.select([listener], [], [], PARENT_POLL)[0]:
            continue
        try:
            connection, _ = listener.accept()
        except OSError:  # closed
            break
        if "support.imported" not in sys.modules:
            import support.imported  # noqa: F401 - what is imported here no fork has to import

            gc.freeze()  # a fork that looked for garbage in all of that would copy it
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who watches a command tells of it, and needs no burial
        with connection:
            size, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(12))
            words, cwd, env, leads = json.loads(connection.recv(int.from_bytes(size, "little"), socket.MSG_WAITALL))
            files = list(array.array("i", ancillary[0][2]))
            if not os.fork():
                _watch(connection, files, words, cwd, env, leads)
            for file in files:
                os.close(file)
    os._exit(0)


def _watch(answers: socket.socket, files: list[int], words: list[str], cwd: str, env: dict[str, str], leads: bool) -> NoReturn:
    """Fork the command, and tell its number and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if child := os.fork():
        os.close(0)  # on which the server listens
        for file in files:
            os.close(file)
        _sent(child, answers)
        _sent(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), answers)
        os._exit(0)
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.closerange(3, max(answers.detach(), *files) + 1)
    if leads:
        os.setsid()
        if os.isatty(0):
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(cwd)
    if words == [ONE_PROCESS]:
        from support.one_process import serve

        os.environ.update(env)
        serve()
        _end(0)
    _end(_status(words, env))


def _status(words: Sequence[str], env: Mapping[str, str]) -> int:
    """What a command in this process comes to."""
    from ddpm_lab.cli.main import main
    from ddpm_lab.studies import commands as of_studies
    from ddpm_lab.sweeps import commands as of_sweeps

    os.environ.clear()
    os.environ.update(env)
    for module in (of_studies, of_sweeps):
        module.subprocess = SimpleNamespace(Popen=_started, DEVNULL=subprocess.DEVNULL)  # type: ignore[assignment]
    sys.argv[1:] = words
    try:
        return main([*words])
    except SystemExit as stop:  # bad arguments
        return int(stop.code or 0)


def _end(status: int) -> NoReturn:
    """An interpreter's end without taking everything apart, which would copy all that forks share: 1.7 s for each of them."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status)


def _in_place_of_the_command(words: Sequence[str]) -> NoReturn:
    process = Forks().start(*words, cwd=Path.cwd(), aloud=True)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda number, _: process.send_signal(number))
    status = process.wait(3600)
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    if sys.argv[1:]:
        _in_place_of_the_command(sys.argv[1:])
    _serve()
