"""Postfix smtpd_proxy_filter -> us -> Postfix again, with XFORWARD: the second one's log carries the first one's client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer

RULE = """
from smtpproxy.script import deny

def on_rcpt(mail, rcpt):
    if rcpt.local_part == "nobody":
        return deny("No such user here", code="550 5.1.1")

def on_message(mail):
    if mail.header["X-Virus"]:
        return deny("Virus found", code="554 5.7.1")
    mail.header["X-Filtered"] = "yes"
"""

IDENTITY = "ADDR=192.0.2.7 PORT=4711 NAME=host.client.test"
FROM = ("--from", "alice@client.test", "--xclient", IDENTITY, "--helo", "client.test")


class Chain(NamedTuple):
    front: Any
    server: RunningServer
    reentry: Any


@pytest.fixture
def chain(postfix: Callable[..., Any], start: Callable[..., RunningServer]) -> Chain:
    reentry = postfix({"reentry": {"smtpd_authorized_xforward_hosts": "127.0.0.0/8"}})
    back = f"127.0.0.1:{reentry.ports['reentry']}"
    config = one_listener("proxy", back, listener='xforward_from = ["127.0.0.0/8"]', settings='identity = "xforward"')
    server = start(config, {"10-filter.py": RULE})
    options = {
        "smtpd_proxy_filter": f"127.0.0.1:{server.port}",
        "smtpd_authorized_xclient_hosts": "127.0.0.0/8",
        "smtpd_discard_ehlo_keywords": "dsn, etrn, vrfy, chunking",
    }
    return Chain(postfix({"front": options}), server, reentry)


def test_the_second_postfix_logs_the_first_ones_client(chain: Chain, swaks: Any) -> None:
    sent = swaks(chain.front.ports["front"], *FROM, "--to", "box@example.com", "--header", "Subject: hello")
    assert sent.returncode == 0, sent.stdout
    chain.reentry.logged("orig_client=host.client.test[192.0.2.7]")
    chain.reentry.logged("status=sent")
    (message,) = chain.reentry.delivered
    assert b"X-Filtered: yes" in message and b"Subject: hello" in message
    assert chain.front.delivered == []


def test_a_rules_refusal_of_a_recipient_reaches_the_client(chain: Chain, swaks: Any) -> None:
    sent = swaks(chain.front.ports["front"], *FROM, "--to", "nobody@example.com")
    assert sent.returncode != 0
    assert "550 5.1.1 No such user here" in sent.stdout


def test_a_rules_refusal_of_the_message_reaches_the_client(chain: Chain, swaks: Any) -> None:
    sent = swaks(chain.front.ports["front"], *FROM, "--to", "box@example.com", "--header", "X-Virus: yes")
    assert sent.returncode != 0
    assert "554 5.7.1 Virus found" in sent.stdout
    assert chain.reentry.delivered == []


def test_an_international_sender_passes(chain: Chain) -> None:
    with FakeClient.greeted(chain.front.ports["front"]) as client:
        assert client.send("MAIL FROM:<jörg@client.test> SMTPUTF8").startswith("250 ")
        assert client.send("RCPT TO:<box@example.com>").startswith("250 ")
        assert client.message("Subject: größer\r\n\r\ngrößer\r\n".encode()).startswith("250 ")
    chain.reentry.logged("status=sent")
    chain.reentry.logged("from=<jörg@client.test>")
