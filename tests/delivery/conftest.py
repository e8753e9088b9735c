from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from smtpproxy.config.values import Target
from smtpproxy.delivery.smtp import SmtpClient, Timeouts
from smtpproxy.delivery.upstream import Upstream
from smtpproxy.net.connection import connect
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import FixedClock

USUAL = Timeouts(connect=5.0, greeting=5.0, mail=5.0, data=5.0, block=5.0, final=5.0)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(0.0)


@pytest.fixture
def to(clock: FixedClock) -> Callable[..., Upstream]:
    """Our side of an upstream, of a fake one or of a port."""

    def make(server: FakeUpstream | int, limit: int = 0) -> Upstream:
        lmtp = isinstance(server, FakeUpstream) and server.lmtp
        port = server.port if isinstance(server, FakeUpstream) else server
        return Upstream(Target("lmtp" if lmtp else "smtp", "127.0.0.1", port), USUAL, "mx.example.com", clock, limit)

    return make


@pytest.fixture
def dial() -> Iterator[Callable[[FakeUpstream], SmtpClient]]:
    """Connect to a fake upstream."""
    clients = []

    def dialled(server: FakeUpstream) -> SmtpClient:
        client = SmtpClient(connect(("127.0.0.1", server.port), 5.0), USUAL, server.lmtp)
        clients.append(client)
        return client

    yield dialled
    for client in clients:
        client.close()


@pytest.fixture
def smtp(dial: Callable[[FakeUpstream], SmtpClient], upstream: FakeUpstream) -> SmtpClient:
    """Connected to the fake upstream, greeted, and past EHLO."""
    client = dial(upstream)
    client.greet()
    client.hello("mx.example.com")
    return client
