"""200 new connections a second while the server is reloaded, upgraded, and stopped and started by systemd: none is refused."""

from __future__ import annotations

import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.front import ENVELOPE
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import write_instance
from smtpproxy.testing.waiting import until

CONFIG = "workers = 2\n" + one_listener("discard", more="[limits]\nconnections_per_client = 0\n")
RATE = 200
COMES_AGAIN = re.compile(r"421 4\.3\.2 ")
"""What a server that stops says to those who are not in the middle of a mail."""

SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="mx", PYTHONUNBUFFERED="1")
os.execv(sys.executable, [sys.executable, "-m", "smtpproxy", "serve", "--config", sys.argv[2]])
"""

pytestmark = [pytest.mark.proof, pytest.mark.timeout(120)]


class Arrivals:
    """A new client every 5 ms, whatever has become of those before; each sends one message."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._running = True
        self.begun = 0
        self.sent: list[float] = []
        """How long each session took that went through, in seconds."""
        self.told_to_come_again = 0
        self.wrong: list[str] = []
        self._started = time.monotonic()
        self._clients: list[Any] = []
        self._arriving = gevent.spawn(self._arrive)

    @property
    def rate(self) -> float:
        """Connections a second, as they were made."""
        return self.begun / (time.monotonic() - self._started)

    @property
    def open(self) -> int:
        """Connections that wait or are served."""
        return self.begun - len(self.sent) - self.told_to_come_again - len(self.wrong)

    def _arrive(self) -> None:
        while self._running:
            self.begun += 1
            self._clients.append(gevent.spawn(self._client))
            gevent.sleep(max(0, self._started + self.begun / RATE - time.monotonic()))

    def _client(self) -> None:
        began = time.monotonic()
        try:
            answer = self._send()
        except (OSError, AssertionError) as error:
            self.wrong.append(repr(error))
            return
        if answer.startswith("250"):
            self.sent.append(time.monotonic() - began)
        elif COMES_AGAIN.match(answer):
            self.told_to_come_again += 1
        else:
            self.wrong.append(answer)

    def _send(self) -> str:
        with FakeClient(self._port, timeout=60.0) as client:
            answer = client.reply()
            for line in ("EHLO client.example", *ENVELOPE):
                if answer.code not in (220, 250):
                    return answer
                answer = client.send(line)
            if answer.code == 250:
                answer = client.message(b"Subject: x\r\n\r\nhello\r\n")
            if answer.code == 250:
                end = client.send("QUIT")
                assert end.code == 221 or COMES_AGAIN.match(end), end
            return answer

    def end(self) -> None:
        self._running = False
        self._arriving.join()
        gevent.joinall(self._clients, timeout=60)


@contextmanager
def arrivals(port: int, proof: Any, what: str) -> Iterator[Arrivals]:
    """Clients as long as the block lasts, half a second before and after it; nothing may go wrong with any of them."""
    load = Arrivals(port)
    until(lambda: len(load.sent) > RATE / 2, 30, "messages before")
    yield load
    seen = len(load.sent)
    until(lambda: len(load.sent) > seen + RATE / 2, 30, "messages after")
    rate = load.rate
    load.end()
    assert load.wrong == [], set(load.wrong)
    assert len(load.sent) + load.told_to_come_again == load.begun
    figures = f"{load.begun} connections, {rate:.0f} a second, 0 refused, {load.told_to_come_again} told to come again"
    took = f"a session {statistics.median(load.sent) * 1e3:.1f} ms (median), {max(load.sent) * 1e3:.0f} ms (longest)"
    proof.figure(what, f"{figures}; {took}")


def test_reload(start: Any, proof: Any) -> None:
    server = start(CONFIG)
    rounds = proof.rounds(2, 20)
    with arrivals(server.port, proof, f"SIGHUP, {rounds} times") as load:
        for count in range(1, rounds + 1):
            server.signal(signal.SIGHUP)
            until(lambda count=count: server.log.count("event=reloaded") == count, 30)  # type: ignore[misc]
    assert load.told_to_come_again == 0


def test_upgrade(start: Any, proof: Any) -> None:
    server = start(CONFIG)
    rounds = proof.rounds(2, 20)
    pid = server.pid
    try:
        with arrivals(server.port, proof, f"SIGUSR2, {rounds} times") as load:
            for count in range(1, rounds + 1):
                os.kill(pid, signal.SIGUSR2)
                found = until(lambda count=count: re.findall(r"event=upgraded pid=(\d+)", server.log)[count - 1 :], 30)  # type: ignore[misc]
                pid = int(found[0])
        assert load.told_to_come_again == 0
    finally:
        os.kill(pid, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes(), 30)


def started(folder: Path, listening: socket.socket, number: int) -> subprocess.Popen[bytes]:
    """As systemd starts a service: with a socket as descriptor 3, and in the environment what it is."""
    printed = folder / f"printed{number}"
    with printed.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", SYSTEMD, str(listening.fileno()), str(folder)],
            stdout=output, stderr=subprocess.STDOUT, pass_fds=[listening.fileno()],
        )  # fmt: skip
    until(lambda: process.poll() is not None or "listening on" in printed.read_text(), 30, "listening")
    assert process.poll() is None, printed.read_text()
    return process


def test_stop_and_start_with_sockets_of_systemd(tmp_path: Path, proof: Any) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listening:
        port = listening.getsockname()[1]
        write_instance(tmp_path, CONFIG.replace("127.0.0.1:0", f"127.0.0.1:{port}"), {})
        rounds = proof.rounds(2, 20)
        service = started(tmp_path, listening, 0)
        try:
            with arrivals(port, proof, f"stopped and started by systemd, {rounds} times") as load:
                for number in range(1, rounds + 1):
                    until(lambda: load.open < 10, 30, "those who waited to be served")
                    service.terminate()
                    assert service.wait(30) == 0
                    service = started(tmp_path, listening, number)
        finally:
            service.terminate()
            service.wait(30)
