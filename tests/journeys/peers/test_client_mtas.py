"""Other people's mail servers that send through us as their smarthost, by STARTTLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until

Start = Callable[..., RunningServer]

CONFIG = """
hostname = "mx.example.com"
[listener.mx]
bind = ["127.0.0.1:0"]
handoff = "out"
tls = {{ cert = "{tls.certificate}", key = "{tls.key}" }}
[handoff.out]
kind = "proxy"
to = ["{upstream}"]
[relaying]
domains = ["example.com"]
"""
HEADER = b"From: alice@example.com\r\nDate: Mon, 23 Nov 2026 18:00:00 +0000\r\nMessage-Id: <1@client.test>\r\n"
CONTENT = HEADER + b"Subject: hello\r\n\r\n.dots\r\n..more\r\n  end  \r\n" + "größer\r\n".encode() + b"x" * 900 + b"\r\n"
LARGE = HEADER + b"Subject: large\r\n\r\n" + (b"." * 76 + b"\r\n") * 65_000


@pytest.fixture(params=["postfix", "exim", "opensmtpd"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(start: Start, upstream: FakeUpstream, certificates: Any, no_nobody: dict[str, str]) -> RunningServer:
    return start(CONFIG.format(tls=certificates, upstream=upstream.address), no_nobody)


@pytest.fixture
def sender(name: str, mta: Callable[..., Any], server: RunningServer, certificates: Any) -> Any:
    return mta(name, certificates, smarthost=server.port)


def submit(sender: Any, content: bytes, *recipients: str, params: str = "", mail_from: str = "alice@example.com") -> None:
    with FakeClient.greeted(sender.port) as client:
        assert client.send(f"MAIL FROM:<{mail_from}>{params}").code == 250
        for recipient in recipients or ("box@example.com",):
            assert client.send(f"RCPT TO:<{recipient}>").code == 250
        assert client.message(content).code == 250


def test_it_sends_by_starttls_and_every_octet_goes_through(
    name: str, sender: Any, server: RunningServer, upstream: FakeUpstream
) -> None:
    for count, content in enumerate((CONTENT, LARGE), 1):
        submit(sender, content, params=" BODY=8BITMIME")
        until(lambda count=count: len(upstream.messages) == count, 20, f"the message: {sender.log[-2000:]}")  # type: ignore[misc]
        message = upstream.messages[-1].content
        assert message.endswith(b"\r\n" + content)
        assert message[: -len(content)].count(b"Received: from ") == 2
    taken = until(lambda: [line for line in server.log.splitlines() if "event=message " in line], what="the log")
    assert all("tls=TLSv1.3" in line for line in taken)
    mails = [line for line in upstream.commands if line.startswith("MAIL")]
    said = {"postfix": ("SIZE=", "BODY=8BITMIME"), "exim": ("SIZE=",), "opensmtpd": ()}[name]
    assert len(mails) == 2 and all(word in line for word in said for line in mails), mails


def test_a_refused_recipient_comes_back_to_its_sender(sender: Any, upstream: FakeUpstream) -> None:
    submit(sender, CONTENT, "nobody@example.com", "box@example.com")
    until(lambda: len(upstream.messages) == 2, 20, f"the message and the notice: {sender.log[-2000:]}")
    by_recipient = {message.recipients[0]: message for message in upstream.messages}
    assert by_recipient.keys() == {"box@example.com", "alice@example.com"}
    assert by_recipient["box@example.com"].content.endswith(CONTENT)
    notice = by_recipient["alice@example.com"]
    assert notice.sender == ""
    assert b"nobody@example.com" in notice.content and b"No such user here" in notice.content


@pytest.mark.parametrize("name", ["postfix", "exim"])
def test_it_sends_international_addresses(sender: Any, upstream: FakeUpstream) -> None:
    submit(sender, CONTENT, params=" SMTPUTF8 BODY=8BITMIME", mail_from="jörg@example.com")
    until(lambda: upstream.messages, 20, f"the message: {sender.log[-2000:]}")
    (mail,) = [line for line in upstream.commands if line.startswith("MAIL")]
    assert "<jörg@example.com>" in mail and "SMTPUTF8" in mail


@pytest.mark.parametrize("name", ["exim"])
def test_it_pipelines(sender: Any, upstream: FakeUpstream) -> None:
    submit(sender, CONTENT, "box@example.com", "other@example.com")
    until(lambda: upstream.messages, 20, f"the message: {sender.log[-2000:]}")
    assert any(" L " in line for line in sender.logged("=> "))
