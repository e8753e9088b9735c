"""The upstream is killed and started over and over under load: no message is accepted and lost, none comes twice.

Killed between taking a message and saying so, nobody can know (RFC 1047): the client is told 451 and comes again. Those
are counted, and shown to be of that kind alone.
"""

from __future__ import annotations

import random
import re
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import gevent
import pytest

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.waiting import until

LIMITS = "[limits]\nconnections_per_client = 0\nerrors = 0\njunk_commands = 0\n"
UNKNOWN_OUTCOME = "451 4.4.2 "


class Upstream:
    """A process that is killed (SIGKILL) and started on the same port."""

    def __init__(self, ledger: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._ledger = ledger
        self.start()

    def start(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("killable.py")), str(self.port), str(self._ledger)]
        self._process = subprocess.Popen(command)
        until(self._answers, 20, "the upstream answers")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def noted(self, what: str) -> list[str]:
        """The recipients that it took, or answered for."""
        return re.findall(rf"^{what} (\S+)$", self._ledger.read_text(), re.MULTILINE)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                return probe.recv(3) == b"220"
        except OSError:
            return False


class Load:
    """Clients that send message after message, each to a recipient of its own, and keep what they were told."""

    def __init__(self, port: int, clients: int) -> None:
        self.told: dict[str, str] = {}
        self.accepted = 0
        self._port = port
        self._running = True
        self._greenlets = [gevent.spawn(self._client) for _ in range(clients)]

    def _client(self) -> None:
        while self._running:
            with FakeClient.greeted(self._port) as client:
                for _ in range(random.randrange(1, 20)):
                    self._message(client, f"n{len(self.told)}@example.com")
                client.send("QUIT")

    def _message(self, client: FakeClient, recipient: str) -> None:
        self.told[recipient] = ""
        client.send("MAIL FROM:<a@client.test>")
        said = client.send(f"RCPT TO:<{recipient}>")
        if said.code == 250:
            said = client.message(b"Subject: x\r\n\r\n" + b"text\r\n" * 500)
        else:
            client.send("RSET")
        self.told[recipient] = said
        self.accepted += said.code == 250

    def stop(self) -> None:
        self._running = False
        gevent.joinall(self._greenlets, timeout=60, raise_error=True)
        assert all(greenlet.successful() for greenlet in self._greenlets), "a client hangs"


def kill_and_start(upstream: Upstream, load: Load) -> None:
    """Killed after a few messages, at any moment of the next ones; started when some were refused."""
    accepted = load.accepted + random.randrange(1, 60)
    until(lambda: load.accepted >= accepted, 30, "messages go through")
    upstream.kill()
    told = len(load.told) + random.randrange(1, 40)
    until(lambda: len(load.told) >= told, 30, "messages are refused")
    upstream.start()


@pytest.mark.proof
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["proxy", "relay"])
def test_each_message_is_delivered_or_refused(start: Any, proof: Any, tmp_path: Path, kind: str) -> None:
    upstream = Upstream(tmp_path / "ledger")
    server = start(one_listener(kind, f"127.0.0.1:{upstream.port}", more=LIMITS))
    load = Load(server.port, clients=8)
    kills = proof.rounds(3, 150)
    for _ in range(kills):
        kill_and_start(upstream, load)
    load.stop()
    upstream.kill()
    times = Counter(upstream.noted("taken"))
    answered = set(upstream.noted("answered"))
    accepted = {recipient for recipient, reply in load.told.items() if reply.startswith("250")}
    refused = load.told.keys() - accepted
    lost_replies = refused & times.keys()
    counts = f"{len(accepted)} accepted, {len(refused)} refused, {len(lost_replies)} of these with the final reply lost"
    proof.figure(kind, f"{kills} kills, {counts}")
    assert accepted <= times.keys(), "accepted and lost"
    assert not [recipient for recipient, count in times.items() if count > 1], "delivered twice"
    assert not refused & answered, "refused although the upstream had said 250"
    assert all(load.told[recipient].startswith("4") for recipient in refused)
    assert all(load.told[recipient].startswith(UNKNOWN_OUTCOME) for recipient in lost_replies)
    assert "internal_error" not in server.log
