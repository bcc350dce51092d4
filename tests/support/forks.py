"""Commands of the lab in processes of their own that need not import torch: each is a fork of one that has.

    python forks.py        orders come over standard input, which is a socket: words, folder, environment and three open files

An order is answered by the process's number, and when it has ended by its exit status. What is forked has computed nothing
before, so no thread is lost by the fork. What only a fresh interpreter shows (what is imported, what is set before torch
loads) is tested with `python -m ddpm_lab`.
"""

from __future__ import annotations

import array
import atexit
import gc
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """What `subprocess.Popen` is for a program: a command that runs.

    Its standard output and error are those of this process where it is `aloud`, else streams of this object.
    """

    def __init__(self, orders: socket.socket, words: Sequence[str], cwd: Path, env: Mapping[str, str], aloud: bool) -> None:
        (from_out, out), (from_err, err) = (_end_of(number, aloud) for number in (1, 2))
        nothing = os.open(os.devnull, os.O_RDONLY)
        ours, self._answers = socket.socketpair()
        order = json.dumps([list(words), str(cwd), dict(env)]).encode()
        files = array.array("i", [nothing, out, err, ours.fileno()])
        orders.sendmsg([len(order).to_bytes(4, "little")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        orders.sendall(order)
        for file in (nothing, out, err):
            os.close(file)
        ours.close()
        self.args = ["ddpm-lab", *words]
        self.returncode: int | None = None
        self.pid = _received(self._answers)
        self.stdout, self.stderr = os.fdopen(from_out, errors="replace"), os.fdopen(from_err, errors="replace")

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            if not select.select([self._answers], [], [], 0)[0]:
                return None
            self.returncode = _received(self._answers)
        return self.returncode

    def wait(self, timeout: float = 300) -> int:
        """The exit status once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not.
        """
        end = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > end:
                self.kill()
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.005)
        return status

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
    """The process that is forked."""

    def __init__(self) -> None:
        self._orders, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, __file__], stdin=theirs, env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
            )

    def start(self, *words: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None, aloud: bool = False) -> Process:
        """A command of the lab, begun."""
        return Process(self._orders, [*map(str, words)], cwd, {**os.environ, **(env or {})}, aloud)

    def in_place_of_python(self, command: Sequence[str], env: Mapping[str, str], **_: object) -> Process:
        """What `subprocess.Popen` would do with `python -m ddpm_lab ...`: for what starts commands of the lab itself."""
        assert command[:3] == [sys.executable, "-m", "ddpm_lab"]
        return self.start(*command[3:], cwd=Path.cwd(), env=env, aloud=True)

    def close(self) -> None:
        """No more orders; what runs goes on."""
        self._orders.close()
        self._server.wait(60)


def _end_of(number: int, aloud: bool) -> tuple[int, int]:
    """What to read and what to write: the ends of a pipe, or nothing and an open file of this process."""
    return (os.open(os.devnull, os.O_RDONLY), os.dup(number)) if aloud else os.pipe()


def _sent(number: int, answers: socket.socket) -> None:
    answers.sendall(struct.pack("<i", number))


def _received(answers: socket.socket) -> int:
    return int(struct.unpack("<i", answers.recv(4, socket.MSG_WAITALL))[0])


def _serve() -> None:
    import support.imported  # noqa: F401 - what is imported here no fork has to import

    gc.freeze()  # a fork that looked for garbage in all of that would copy it
    atexit.register(gc.unfreeze)  # some of it complains if it is not torn down
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who watches a command tells of it, and needs no burial
    orders = socket.socket(fileno=0)
    while True:
        size, ancillary, _, _ = orders.recvmsg(4, socket.CMSG_SPACE(16))
        if not size:
            return
        words, cwd, env = json.loads(orders.recv(int.from_bytes(size, "little"), socket.MSG_WAITALL))
        files = list(array.array("i", ancillary[0][2]))
        if not os.fork():
            _watch(files, words, cwd, env)
        for file in files:
            os.close(file)


def _watch(files: list[int], words: list[str], cwd: str, env: dict[str, str]) -> NoReturn:
    """Fork the command, and tell its number and how it ended."""
    from ddpm_lab.cli.main import main

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if child := os.fork():
        with socket.socket(fileno=files[3]) as answers:
            _sent(child, answers)
            for file in files[:3]:
                os.close(file)
            _sent(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), answers)
        os._exit(0)
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    os.closerange(3, max(files) + 1)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv[1:] = words
    sys.exit(main(words))


if __name__ == "__main__":
    _serve()
