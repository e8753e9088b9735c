"""Every process is killed at random moments under load, over and over: no message that got 250 is lost.

A message that comes twice was in flight at a kill: delivered, and not recorded yet (RFC 1047). Those are counted.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until

CLIENTS = 8
WORKERS = 2
AT_THE_RECEIVER = 20
"""Connections of a worker to one destination ([queue] connections)."""
LIMITS = "[limits]\nconnections_per_client = 0\nerrors = 0\njunk_commands = 0\n"


class Load:
    """Clients that send message after message, each to a recipient of its own, whatever happens to the server."""

    def __init__(self) -> None:
        self.accepted: set[str] = set()
        self.sent = 0
        self.port = 0
        self._running = True
        self._greenlets = [gevent.spawn(self._client) for _ in range(CLIENTS)]

    def _client(self) -> None:
        while self._running:
            try:
                with FakeClient.greeted(self.port) as client:
                    while self._running:
                        self._message(client)
            except (OSError, EOFError, AssertionError, ValueError):
                gevent.sleep(0.02)  # the server is down

    def _message(self, client: FakeClient) -> None:
        self.sent += 1
        recipient = f"n{self.sent}@example.com"
        client.send("MAIL FROM:<a@client.test>")
        client.send(f"RCPT TO:<{recipient}>")
        if client.message(b"Subject: x\r\n\r\n" + b"text\r\n" * random.choice((10, 500))).code == 250:
            self.accepted.add(recipient)

    def stop(self) -> None:
        self._running = False
        gevent.joinall(self._greenlets, timeout=30)


def faults(upstream: FakeUpstream) -> None:
    """One in twenty is put off."""
    usual = upstream.act

    def act(stage: str, argument: str) -> Any:
        if stage == "dot" and random.random() < 0.05:
            return "451 4.3.0 Come again"
        return usual(stage, argument)

    upstream.act = act  # type: ignore[method-assign]


@pytest.mark.proof
@pytest.mark.timeout(240)
def test_what_got_250_is_delivered(
    start: Callable[..., RunningServer], upstream: FakeUpstream, proof: Any, tmp_path: Path
) -> None:
    faults(upstream)
    more = f'[queue]\nretry = ["200ms"]\n[route."*"]\nto = ["{upstream.address}"]\n{LIMITS}'
    toml = f'data = "{tmp_path}/kept"\nworkers = {WORKERS}\n' + one_listener("queue", more=more)
    load = Load()
    kills = proof.rounds(4, 200)
    for _ in range(kills):
        server = start(toml)
        load.port = server.port
        accepted = len(load.accepted) + random.randrange(1, 120)
        until(lambda accepted=accepted: len(load.accepted) >= accepted, 40, "messages go through")
        server.kill()
    load.stop()
    start(toml)
    until(lambda: load.accepted <= set(copies(upstream)), 60, "everything that got 250 arrives")
    times = copies(upstream)
    again = sum(count - 1 for count in times.values())
    proof.figure("queue", f"{kills} kills, {len(load.accepted)} accepted, 0 lost, {again} delivered twice")
    assert all(b"text\r\n" in message.content for message in upstream.messages)
    assert again <= kills * WORKERS * AT_THE_RECEIVER, "more came twice than can have been in flight"


def copies(upstream: FakeUpstream) -> Counter[str]:
    return Counter(rcpt for message in upstream.messages for rcpt in message.recipients)
