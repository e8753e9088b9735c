"""Connections through servers in front of us count as those of the clients that they name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.waiting import until
from smtpproxy.wire.proxyheader import format_v1, format_v2

Start = Callable[..., RunningServer]

CONFIG = """
hostname = "mx.example.com"
workers = 2
[listener.balanced]
bind = ["127.0.0.1:0"]
handoff = "out"
proxy_from = ["127.0.0.1/32"]
[listener.relayed]
bind = ["127.0.0.1:0"]
handoff = "out"
xclient_from = ["127.0.0.1/32"]
[handoff.out]
kind = "discard"
[relaying]
domains = ["example.com"]
[limits]
connections_per_client = 2
"""


@pytest.fixture
def server(start: Start) -> RunningServer:
    return start(CONFIG)


def balanced(server: RunningServer, address: str) -> FakeClient:
    client = FakeClient(server.ports["balanced"])
    client.raw(format_v1((address, 4711), ("198.51.100.2", 25)))
    return client


def test_a_balancers_connections_count_by_the_address_in_the_header(server: RunningServer) -> None:
    clients = [balanced(server, address) for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3")]
    for client in clients:
        client.expect("220")
    refused = balanced(server, "192.0.2.1")
    assert refused.reply() == "421 4.7.0 Too many connections, try again later"
    assert refused.closed()
    until(lambda: "event=connection_refused client=192.0.2.1 " in server.log)
    assert clients[0].send("QUIT").code == 221 and clients[0].closed()
    until(lambda: balanced(server, "192.0.2.1").reply().startswith("220"))


def test_health_checks_count_as_the_balancers(server: RunningServer) -> None:
    codes, kept = [], []
    for _ in range(3):
        kept.append(FakeClient(server.ports["balanced"]))
        kept[-1].raw(b"PROXY UNKNOWN\r\n")
        codes.append(kept[-1].reply().code)
    assert codes == [220, 220, 421]


def test_xclient_counts_by_the_address_that_it_gives(server: RunningServer) -> None:
    clients = [FakeClient.greeted(server.ports["relayed"]) for _ in range(4)]
    replies = [client.send("XCLIENT ADDR=192.0.2.1") for client in clients]
    assert [reply.code for reply in replies] == [220, 220, 421, 421]
    assert clients[3].closed()
    balanced(server, "192.0.2.1").expect("421")


def test_a_stranger_is_counted_as_before(server: RunningServer) -> None:
    codes, kept = [], []
    for _ in range(3):
        kept.append(FakeClient(server.ports["balanced"], source="127.0.0.2"))
        codes.append(kept[-1].reply().code)
    assert codes == [220, 220, 421]
    stranger = FakeClient(server.ports["balanced"], source="127.0.0.3")
    stranger.expect("220")
    stranger.raw(format_v2(("192.0.2.1", 1), ("198.51.100.2", 25)))
    stranger.expect("421 4.7.0 A PROXY header is not taken from here")
    until(lambda: "event=proxy_refused" in server.log)
