"""A server of ours in a process of its own, as an operator starts it: `smtpproxy serve --config DIR`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.waiting import until

LISTENING = re.compile(r"listening on (\S+?)(?::(\d+))? \(([^)]+)\)")


class RunningServer:
    """A server that was started: `ports` by the listener's name, what it printed, and its end."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], printed: Path) -> None:
        self.folder = folder
        self.process = process
        self._printed = printed
        self._clients: list[FakeClient] = []

    @property
    def ports(self) -> dict[str, int]:
        """Where each listener listens, by its name."""
        return {name: int(port) for _, port, name in LISTENING.findall(self.log) if port}

    @property
    def listeners(self) -> set[str]:
        """The names of those that listen."""
        return {name for *_, name in LISTENING.findall(self.log)}

    @property
    def port(self) -> int:
        """Where the first listener listens."""
        return next(iter(self.ports.values()))

    @property
    def log(self) -> str:
        """Everything it has printed."""
        return self._printed.read_text("utf-8", "replace")

    @property
    def pid(self) -> int:
        """The master."""
        return self.process.pid

    @property
    def workers(self) -> list[int]:
        """The processes that serve."""
        return self._children("worker")

    @property
    def gate(self) -> int:
        """The process that watches the rules."""
        return self._children("gate")[0]

    def _children(self, kind: str) -> list[int]:
        pids = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text("ascii").split()
        return [int(pid) for pid in pids if _named(int(pid)) == f"smtp-{kind}"]

    @property
    def resident(self) -> int:
        """Memory that the workers use, in octets (VmRSS of proc(5))."""
        return sum(map(_resident, self.workers))

    def client(self, hello: str = "EHLO client.example", source: str = "") -> FakeClient:
        """A client that was greeted and has said hello; it hangs up when the server is stopped."""
        client = FakeClient.greeted(self.port, hello, source)
        self._clients.append(client)
        return client

    def write_rule(self, name: str, source: str) -> None:
        """Save a rule into the folder, as an editor does that writes and renames."""
        target = self.folder / "scripts" / name
        fresh = target.with_name(f".{name}.new")
        fresh.write_text(source, "utf-8")
        fresh.replace(target)

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL for every process at once, as when the machine fails; all are gone when this returns."""
        pids = [self.pid, *self.workers]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        until(lambda: not any(runs(pid) for pid in pids), what="the end of every process")

    def stop(self, within: float = 10.0) -> int:
        """SIGTERM and wait; SIGKILL past the deadline. The exit status."""
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(within)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGKILL)
        return self.process.wait()


def write_instance(folder: Path, toml: str, rules: Mapping[str, str]) -> None:
    """A configuration in one file, and a folder of rules that only we can write to."""
    scripts = folder / "scripts"
    scripts.mkdir(parents=True, exist_ok=True)
    scripts.chmod(0o755)
    (folder / "smtpproxy.toml").write_text(toml, "utf-8")
    for name, source in rules.items():
        (scripts / name).write_text(source, "utf-8")


def start_server(
    folder: Path, toml: str, rules: Mapping[str, str] | None = None, *, within: float = 15.0
) -> RunningServer:
    """Write an instance and start it; ready when every listener says where it listens. Raises AssertionError if not."""
    write_instance(folder, toml, rules or {})
    printed = folder / "printed.log"
    command = [sys.executable, "-m", "smtpproxy", "serve", "--config", str(folder)]
    with printed.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=_environment())
    server = RunningServer(folder, process, printed)
    wanted = len(re.findall(r"^\[listener\.", toml, re.MULTILINE))
    try:
        until(lambda: process.poll() is not None or len(server.listeners) >= wanted, within, "listening")
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}:\n{server.log}")
    except AssertionError:
        server.stop()
        raise
    return server


@contextmanager
def running_server(folder: Path, toml: str, rules: Mapping[str, str] | None = None) -> Iterator[RunningServer]:
    """`start_server` for a with-block: stopped at its end."""
    server = start_server(folder, toml, rules)
    try:
        yield server
    finally:
        server.stop()


def runs(pid: int) -> bool:
    """Whether there is such a process that has not ended; one that only waits to be reaped has (proc(5), the state in stat)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _named(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text("ascii").strip()
    except OSError:
        return ""


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def _environment() -> dict[str, str]:
    """Ours, with output that is not held back."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}
