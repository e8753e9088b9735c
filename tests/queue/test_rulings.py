"""Rules are asked about deliveries: what they refuse is not sent, what they silence is not told."""

from __future__ import annotations

import re
from collections.abc import Callable

from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until

RULE = """
from smtpproxy.script import defer, deny, log

def told(moment, delivery):
    rcpts = ",".join(str(rcpt) for rcpt in delivery.recipients)
    log.info(f"{moment} {rcpts} {delivery.attempts} {delivery.reply or '-'} {delivery.host[:9] or '-'}")

def on_deliver(delivery):
    name = delivery.recipients[0].local_part
    if name == "never":
        return deny("Not from here", code="550 5.7.1")
    if name == "later" and delivery.attempts == 1:
        return defer("Not yet", code="451 4.7.1")

def on_delivered(delivery):
    told("delivered", delivery)

def on_deferred(delivery):
    told("deferred", delivery)

def on_bounced(delivery):
    told("bounced", delivery)
    if delivery.recipients[0].local_part == "quiet":
        return deny("nobody wants to know")

def watch_delivered(delivery):
    told("watched", delivery)
"""


def test_each_moment_of_a_delivery(start: Callable[..., RunningServer], upstream: FakeUpstream) -> None:
    upstream.on("RCPT", "550 5.1.1 No such user", argument="quiet@")
    more = f'[queue]\nretry = ["200ms"]\n[route."*"]\nto = ["{upstream.address}"]'
    server = start(one_listener("queue", more=more), {"10-x.py": RULE})
    with server.client() as client:
        for name in ("b", "never", "later", "quiet"):
            client.send("MAIL FROM:<a@client.example>")
            client.send(f"RCPT TO:<{name}@example.com>")
            assert client.message(b"Subject: x\r\n\r\ntext\r\n").code == 250
    upstream.wait_for(lambda it: len(it.messages) == 3, within=20)
    assert sorted(message.recipients[0] for message in upstream.messages) == [
        "a@client.example", "b@example.com", "later@example.com",
    ]  # fmt: skip
    said = until(lambda: (lines := told(server)) and any(line.startswith("watched a@client.example") for line in lines) and lines)
    assert any(line.startswith("delivered b@example.com 1 250 ") and line.endswith(" 127.0.0.1") for line in said)
    assert "bounced never@example.com 1 550 5.7.1 Not from here -" in said
    assert "deferred later@example.com 1 451 4.7.1 Not yet -" in said
    assert "bounced quiet@example.com 1 550 5.1.1 No such user 127.0.0.1" in said
    until(lambda: any(line.startswith("delivered later@example.com 2 ") for line in told(server)))


def told(server: RunningServer) -> list[str]:
    """What the rule has logged."""
    return re.findall(r'event=rule .*?text="([^"]+)"', server.log)
