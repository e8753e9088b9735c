"""Who is let in: connections in all, from one address, from one network; less time for those who come late."""

from __future__ import annotations

from pathlib import Path

import pytest

from smtpproxy.config.limits import Limits
from smtpproxy.server.listeners import Admission, network
from smtpproxy.server.tally import Tally
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import running_server


def admission(**limits: int) -> Admission:
    return Admission(Limits(**limits), Tally.alone())


def test_a_network_has_a_limit_of_its_own() -> None:
    it = admission(connections_per_client=2, connections_per_network=3)
    tickets = [it.enter(f"192.0.2.{host}") for host in (1, 1, 1, 2, 3)]
    assert [ticket is not None for ticket in tickets] == [True, True, False, True, False]
    stranger = it.enter("198.51.100.1")
    assert stranger is not None
    assert not stranger.move("192.0.2.3")
    first = tickets[0]
    assert first is not None
    first.leave()
    assert stranger.move("192.0.2.3")
    assert not it.enter("192.0.2.4")


def test_a_network_may_have_what_one_client_may_have() -> None:
    it = admission(connections_per_client=4, connections_per_network=2)
    assert [bool(it.enter(f"192.0.2.{host}")) for host in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize("limits", [{"connections_per_client": 0}, {"connections_per_client": 300, "connections_per_network": 0}])
def test_none_is_none(limits: dict[str, int]) -> None:
    it = admission(**limits)
    assert all(it.enter(f"192.0.2.{host}") for host in range(256))


@pytest.mark.parametrize(("one", "other"), [("192.0.2.1", "192.0.2.254"), ("2001:db8::1", "2001:db8:0:0:ffff::2")])
def test_neighbours(one: str, other: str) -> None:
    assert network(one) == network(other)


@pytest.mark.parametrize(("one", "other"), [("192.0.2.1", "192.0.3.1"), ("2001:db8::1", "2001:db8:0:1::1")])
def test_strangers(one: str, other: str) -> None:
    assert network(one) != network(other)


def test_all_in_all() -> None:
    it = admission(connections=10, connections_per_client=0)
    assert [bool(it.enter("192.0.2.1")) for _ in range(12)] == [True] * 10 + [False] * 2


def test_who_comes_when_it_is_crowded_has_less_time(tmp_path: Path) -> None:
    limits = '[limits]\nconnections = 10\n[limits.timeouts]\nstress = "200ms"\ndrain = "1s"\n'
    with running_server(tmp_path, one_listener("discard", more=limits)) as server:
        early = [server.client() for _ in range(9)]
        late = server.client()
        assert str(late.reply()).startswith("421 4.4.2")
        assert early[0].send("NOOP").code == 250
        with FakeClient(server.port) as client:
            assert client.reply().code == 220
