"""What a process is short of: time, descriptors. Who comes then is told to come back, and the log says it once."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from smtpproxy.server.pressure import CALM, Lateness
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer, running_server
from smtpproxy.testing.waiting import until

BUSY = "421 4.3.2"


def looks(it: Lateness, *late: float) -> list[bool]:
    """What it says at each look, the looks half a second apart."""
    return [it.look(by, 0.5) for by in late]


def test_one_long_turn_is_no_reason() -> None:
    assert looks(Lateness(1.0), 5.0, 0.0, 5.0, 0.2, 3.0) == [False] * 5


def test_two_in_a_row_are() -> None:
    assert looks(Lateness(1.0), 1.5, 1.0) == [False, True]


def test_it_is_over_after_a_calm_time_only() -> None:
    it = Lateness(1.0)
    looks(it, 2.0, 2.0)
    calm = int(CALM / 0.5)
    assert looks(it, *[0.0] * (calm - 1), 0.5) == [True] * calm
    assert looks(it, *[0.2] * calm) == [True] * (calm - 1) + [False]


def test_without_a_limit_it_is_never_late() -> None:
    assert looks(Lateness(0.0), 9.0, 9.0, 9.0) == [False] * 3


SLOW_RULE = """
import gevent, time
from gevent.monkey import get_original
def on_command(client, verb, argument):
    if verb == "NOOP":
        for _ in range(6):
            get_original("time", "sleep")(0.6)
            gevent.sleep(0.001)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    more = '[limits]\nlag = "400ms"\nconnections_per_client = 0\n[limits.timeouts]\ndrain = "1s"\n'
    with running_server(tmp_path, one_listener("discard", more=more), rules={"10-slow.py": SLOW_RULE}) as running:
        yield running


def greeting(server: RunningServer) -> str:
    with FakeClient(server.port) as client:
        return str(client.reply())


def test_a_late_process_tells_newcomers_to_come_back_and_serves_those_it_has(server: RunningServer) -> None:
    client = server.client()
    client.raw(b"NOOP\r\n")
    assert until(lambda: greeting(server).startswith(BUSY))
    assert client.reply().code == 250
    assert until(lambda: greeting(server).startswith("220"))
    assert until(lambda: server.log.count("event=overloaded") == 2)
    begun, over = [line for line in server.log.splitlines() if "event=overloaded" in line]
    assert "state=begun" in begun
    assert "state=over" in over
    assert "refused=0" not in over
    assert client.send("RSET").code == 250


def fill(server: RunningServer) -> list[FakeClient]:
    """Come in until there is no room any more; those who are in."""
    clients: list[FakeClient] = []
    while str((client := FakeClient(server.port)).reply()).startswith("220"):
        clients.append(client)
    client.close()
    return clients


def test_without_descriptors_clients_are_told_and_later_served(server: RunningServer) -> None:
    (worker,) = server.workers
    limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    held = [server.client() for _ in range(3)]
    used = max(int(path.name) for path in Path(f"/proc/{worker}/fd").iterdir()) + 1
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (used, limits[1]))
    more = fill(server)
    assert all(greeting(server).startswith(BUSY) for _ in range(5))
    assert all(client.send("RSET").code == 250 for client in held)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, limits)
    assert until(lambda: greeting(server).startswith("220"))
    for client in more:
        client.close()
    assert until(lambda: server.log.count("event=no_descriptors") == 2)
    assert "state=over" in server.log
