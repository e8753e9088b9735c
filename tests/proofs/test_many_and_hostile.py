"""Lines without end, clients without haste, thousands that say nothing: memory stays flat and the others are served."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import gevent
import pytest

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer, running_server
from smtpproxy.testing.waiting import until

LIMITS = """
[limits]
connections = 15000
connections_per_client = 0
junk_commands = 0
[limits.timeouts]
drain = "1s"
"""
CONFIG = one_listener("discard", more=LIMITS)
MEGABYTE = 1 << 20
COUNTS = {True: 0.99, False: 0.5}
"""Which of the times is looked at, by whether the proof runs in full: in the suite there are too few for a 99th of 100."""
NOTICED = {True: 0.02, False: 1.0}
"""Seconds more than twice what it takes alone; the suite runs on machines that have other work."""
FLAT = 4 * MEGABYTE
IDLE = {True: 20 * 1024, False: 40 * 1024}
"""Octets of memory for a connection; among few of them, what is made once counts for more."""
SOURCES = 8
"""Addresses that many clients come from: one has too few ports."""
BETWEEN_OCTETS = 0.001
"""From all slow clients together; faster, and they would be a flood."""


def serve_one(port: int) -> float:
    """A whole session with one message; how long it took, in seconds."""
    began = time.monotonic()
    with FakeClient.greeted(port) as client:
        client.send("MAIL FROM:<a@client.test>")
        client.send("RCPT TO:<b@example.com>")
        assert client.message(b"Subject: x\r\n\r\ntext\r\n").startswith("250")
        client.send("QUIT")
    return time.monotonic() - began


def source(number: int) -> str:
    """Where the client of this number comes from."""
    return f"127.0.0.{2 + number % SOURCES}"


def in_data(port: int, source: str = "") -> FakeClient:
    """A client that was told to go ahead with its message."""
    client = FakeClient.greeted(port, source=source)
    client.send("MAIL FROM:<a@client.test>")
    client.send("RCPT TO:<b@example.com>")
    assert client.send("DATA").startswith("354")
    return client


def pour(server: RunningServer, client: FakeClient, piece: bytes, size: int) -> Iterator[int]:
    """As much in pieces, or until the server closes; the memory in use meanwhile."""
    with suppress(OSError):
        for number in range(size // len(piece)):
            client.raw(piece)
            if number % 16 == 0:
                yield server.resident


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[RunningServer]:
    """One that has no memory left over from others."""
    with running_server(tmp_path, CONFIG) as running:
        for _ in range(20):
            serve_one(running.port)
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server"), CONFIG) as running:
        for _ in range(20):
            serve_one(running.port)
        yield running


FLOODS = {
    "a command line": (False, b"x" * 65536),
    "command lines": (False, b"NOOP " + b"x" * 65529 + b"\r\n"),
    "a line of a header": (True, b"x" * 65536),
    "fields of a header": (True, b"X-Field: xxxxxxx\r\n" * 3640),
    "a message": (True, b"\r\n" + b"x" * 60 + b"\r\n.x"),
    "newlines": (True, b"\n" * 65536),
    "stuffed dots": (True, b"\r\n..\r\n" * 10000),
}


@pytest.mark.proof
@pytest.mark.parametrize("flood", FLOODS)
def test_floods(server: RunningServer, proof: Any, flood: str) -> None:
    """Memory stays flat, and the next client is served."""
    content, piece = FLOODS[flood]
    piece *= max(1, 65536 // len(piece))
    size = 64 * MEGABYTE if len(set(piece)) == 1 else proof.rounds(16, 64) * MEGABYTE
    before = server.resident
    with in_data(server.port) if content else FakeClient.greeted(server.port) as client:
        most = max(pour(server, client, piece, size), default=before)
    proof.figure(f"{size // MEGABYTE} MB of {flood}", f"{(most - before) / MEGABYTE:+.1f} MB")
    assert most - before < FLAT + MEGABYTE  # a message is held in memory up to 1 MB
    assert serve_one(server.port) < 5.0


@pytest.mark.proof
def test_slow_clients(server: RunningServer, proof: Any) -> None:
    """They send an octet at a time, and read nothing: another client does not notice."""
    raise_file_limit()
    alone = [serve_one(server.port) for _ in range(proof.rounds(20, 500))]
    slow = [
        FakeClient.greeted(server.port, source=source(number)) if number % 2 else in_data(server.port, source(number))
        for number in range(proof.rounds(40, 5000))
    ]
    turns = proof.lasting(1.0, 60.0)
    dripping = gevent.spawn(drip, slow, turns)
    times = []
    while not dripping.ready():
        times.append(serve_one(server.port))
    dripping.get()
    for client in slow:
        client.close()
    proof.figure("served alone", spread(alone))
    proof.figure(f"served beside {len(slow)} slow clients", spread(times))
    assert unharmed(alone, times, proof.full)


def drip(clients: list[FakeClient], turns: Iterator[int]) -> None:
    for turn in turns:
        for client in clients:
            client.raw(b"NOOP \r\n"[turn % 7 :][:1])
            gevent.sleep(BETWEEN_OCTETS)


@pytest.mark.proof
def test_a_client_that_reads_nothing(server: RunningServer, proof: Any) -> None:
    """Its replies wait for it in the kernel's buffers, not in our memory."""
    before = server.resident
    with FakeClient.greeted(server.port) as client:
        client.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):  # the server reads no more of it
            for _ in range(2000):
                client.raw(b"HELP\r\n" * 10000)
        most = server.resident
        assert serve_one(server.port) < 5.0
    proof.figure("a client that reads nothing", f"{(most - before) / MEGABYTE:+.1f} MB")
    assert most - before < FLAT


@pytest.mark.proof
def test_idle_connections(fresh: RunningServer, proof: Any) -> None:
    """Thousands that have said EHLO and wait; what each costs, and what another client notices."""
    server = fresh
    count = proof.rounds(300, 10_000)
    raise_file_limit()
    alone = [serve_one(server.port) for _ in range(proof.rounds(20, 1000))]
    before = server.resident
    with ExitStack() as stack:
        for number in range(count):
            stack.enter_context(FakeClient.greeted(server.port, source=source(number)))
        each = (server.resident - before) / count
        times = [serve_one(server.port) for _ in range(proof.rounds(20, 1000))]
    proof.figure(f"{count} idle connections", f"{each / 1024:.1f} KB each")
    proof.figure("served alone", spread(alone))
    proof.figure("served beside them", spread(times))
    assert unharmed(alone, times, proof.full)
    assert each < IDLE[proof.full]
    until(lambda: serve_one(server.port) < 1.0, 10, "served when they have left")


def raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def unharmed(alone: list[float], beside: list[float], full: bool) -> bool:
    """Sessions beside others take as long as those that are alone, but for what a busy machine does to both."""
    return share(beside, COUNTS[full]) < 2 * share(alone, COUNTS[full]) + NOTICED[full]


def share(times: list[float], part: float) -> float:
    """The time within which so many of them were done."""
    return sorted(times)[min(len(times) - 1, int(len(times) * part))]


def spread(times: list[float]) -> str:
    """For people."""
    median, late = (share(times, part) * 1000 for part in (0.5, 0.99))
    return f"median {median:.1f} ms, 99th of 100 {late:.1f} ms ({len(times)} sessions)"
