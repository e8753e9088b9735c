"""Postfix is stopped and started under load: none is both refused and delivered, none accepted and lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.waiting import until


def server_before(mx: Any, start: Callable[..., RunningServer]) -> RunningServer:
    return start(one_listener("proxy", f"127.0.0.1:{mx.ports['mx']}", settings='identity = "xclient"'))


class Load:
    """Clients that send one message after another, each with a number, and keep what they were told."""

    def __init__(self, server: RunningServer, clients: int) -> None:
        self._server = server
        self._number = 0
        self._running = True
        self.accepted: set[int] = set()
        self.refused: dict[int, str] = {}
        self._greenlets = [gevent.spawn(self._client) for _ in range(clients)]

    def _client(self) -> None:
        while self._running:
            self._number += 1
            number = self._number
            answer = self._send(number)
            if answer.startswith("250"):
                self.accepted.add(number)
            else:
                self.refused[number] = answer

    def _send(self, number: int) -> str:
        with self._server.client() as client:
            answer = client.send("MAIL FROM:<alice@client.test>")
            if answer.startswith("250"):
                answer = client.send("RCPT TO:<box@example.com>")
            if answer.startswith("250"):
                answer = client.message(b"Subject: load\r\nX-Number: %d\r\n\r\n" % number + b"x" * 70 + b"\r\n")
            return answer

    def stop(self) -> None:
        self._running = False
        gevent.joinall(self._greenlets, timeout=30, raise_error=True)


def delivered(mx: Any) -> list[int]:
    """The numbers of the messages in the mailbox."""
    return [int(found[1]) for message in mx.delivered if (found := re.search(rb"X-Number: (\d+)", message))]


@pytest.fixture
def mx(postfix: Callable[..., Any]) -> Any:
    # The timeout ends connections that are kept open for later mail: an orderly stop would wait for them.
    return postfix({"mx": {"smtpd_authorized_xclient_hosts": "127.0.0.0/8", "smtpd_timeout": "2s"}})


def stop_and_start(mx: Any, load: Load, stop: Callable[[], None]) -> None:
    """Twice, with some messages through before, some refused in between, and some through after."""
    for _ in range(2):
        accepted, refused = len(load.accepted), len(load.refused)
        until(lambda seen=accepted: len(load.accepted) >= seen + 20, 20, "messages go through")
        stop()
        until(lambda seen=refused: len(load.refused) >= seen + 20, 20, "messages are refused")
        mx.start()
    accepted = len(load.accepted)
    until(lambda: len(load.accepted) >= accepted + 20, 20, "messages go through again")
    load.stop()
    until(lambda: load.accepted <= set(delivered(mx)), 30, "every accepted message is delivered")
    assert all(re.match(r"4\d\d 4\.", answer) for answer in load.refused.values()), set(load.refused.values())


@pytest.mark.timeout(120)
def test_each_message_is_either_delivered_or_refused(mx: Any, start: Callable[..., RunningServer]) -> None:
    load = Load(server_before(mx, start), clients=4)
    stop_and_start(mx, load, mx.retire)
    arrived = delivered(mx)
    assert len(arrived) == len(set(arrived)), "a message arrived twice"
    assert not set(arrived) & set(load.refused), {n: load.refused[n] for n in set(arrived) & set(load.refused)}


@pytest.mark.timeout(120)
def test_killed_amid_messages_none_is_accepted_and_lost(mx: Any, start: Callable[..., RunningServer]) -> None:
    """Killed between its commit and its reply, nobody can know (RFC 1047): then 451, and the client comes again."""
    load = Load(server_before(mx, start), clients=4)
    stop_and_start(mx, load, mx.stop)
    unknown = set(delivered(mx)) & set(load.refused)
    assert all(load.refused[number].startswith("451 4.4.2 ") for number in unknown)
