"""Other people's servers as private instances: a folder of their own, free ports, ended by their process id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from smtpproxy.testing.process import runs
from smtpproxy.testing.waiting import until


def program(name: str, package: str) -> str:
    """Where a program is; fails with the package that has it."""
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin:/usr/local/sbin")
    if found is None:
        pytest.fail(f"this journey needs {name}: install the package {package!r}", pytrace=False)
    return found


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens on the port and greets."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as probe:
            return probe.recv(4).startswith(b"220")
    except OSError:
        return False


def children(pid: int) -> dict[int, str]:
    """The names of a process's children by their process ids (proc(5), stat)."""
    names = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            head, _, rest = stat.read_text().rpartition(")")
            if rest.split()[1] == str(pid):
                number, _, name = head.partition(" (")
                names[int(number)] = name
    return names

D = TypeVar("D", bound="Daemon")


class Daemon:
    """A private server: its folder, its log, its process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_file = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.ports: dict[str, int] = {}
        folder.chmod(0o755)

    @property
    def log(self) -> str:
        """Everything it has logged."""
        return self.log_file.read_text("utf-8", "replace") if self.log_file.exists() else ""

    def logged(self, text: str, within: float = 10.0) -> list[str]:
        """Wait for a text in the log; the lines that hold it."""

        def lines() -> list[str]:
            return [line for line in self.log.splitlines() if text in line]

        return until(lines, within, f"{text!r} in {self.log_file}:\n{self.log[-3000:]}")

    def command(self) -> list[str]:
        """What to run; it must stay in the foreground."""
        raise NotImplementedError

    def start(self) -> None:
        """Run it, and wait until every port answers."""
        with (self.folder / "printed").open("ab") as printed:
            self.process = subprocess.Popen(self.command(), stdout=printed, stderr=printed, start_new_session=True)
        for name, port in self.ports.items():
            until(lambda port=port: self._alive() and answers(port), 15.0, f"{name} on port {port}: {self.printed}")

    def _alive(self) -> bool:
        assert self.process is not None and self.process.poll() is None, f"ended at once: {self.printed}{self.log}"
        return True

    @property
    def printed(self) -> str:
        """What it said on the console."""
        return (self.folder / "printed").read_text("utf-8", "replace")

    def stop(self) -> None:
        """End the process that `start` made, then what is left of its session, and wait for all of them."""
        if self.process is None or self.process.poll() is not None:
            return
        offspring = children(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        until(lambda: not any(runs(pid) for pid in offspring), 10.0, f"the end of {offspring}")


@contextlib.contextmanager
def several(folder: Path, name: str) -> Iterator[Callable[[Callable[[Path], D]], D]]:
    """Start servers, each made in a folder of its own below this one, and stop them all in the end."""
    started: list[Daemon] = []

    def begin(make: Callable[[Path], D]) -> D:
        place = folder / f"{name}{len(started)}"
        place.mkdir()
        server = make(place)
        started.append(server)
        server.start()
        return server

    try:
        yield begin
    finally:
        for server in started:
            server.stop()
