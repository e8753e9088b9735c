"""Postfix with DSN -> our queue -> another Postfix; notices come to a mailbox of the first, and read like Postfix's own."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import pytest

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.waiting import until

CONFIG = """
hostname = "queue.example.net"
[listener.mx]
bind = ["127.0.0.1:0"]
handoff = "out"
[handoff.out]
kind = "queue"
[queue]
retry = ["300ms"]
[relaying]
networks = ["127.0.0.0/8"]
[route."example.com"]
to = ["127.0.0.1:{home}"]
[route."*"]
to = ["127.0.0.1:{far}"]
"""
SENT = ("NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;No+2Bbody@far.test", "RET=FULL ENVID=QQ+2B1")


class Way:
    """`home` has the sender's mailbox and hands all other mail to us; we hand it to `far`."""

    def __init__(self, postfix: Callable[..., Any], start: Callable[..., RunningServer], **far: str) -> None:
        self.home = postfix({"mx": {}}, mynetworks="127.0.0.0/8", smtpd_relay_restrictions="permit_mynetworks,reject")
        where = {"virtual_mailbox_domains": "far.test", "relayhost": f"[127.0.0.1]:{self.home.ports['mx']}", **far}
        self.far = postfix({"mx": {}}, **where)
        self.server = start(CONFIG.format(home=self.home.ports["mx"], far=self.far.ports["mx"]))
        self.home.configure({"mx": {}}, {
            "mynetworks": "127.0.0.0/8", "smtpd_relay_restrictions": "permit_mynetworks,reject",
            "relayhost": f"[127.0.0.1]:{self.server.port}",
        })  # fmt: skip
        self.home.stop()
        self.home.start()

    def send(self, recipient: str) -> None:
        with FakeClient.greeted(self.home.ports["mx"]) as client:
            assert client.send(f"MAIL FROM:<alice@example.com> {SENT[1]}").code == 250
            assert client.send(f"RCPT TO:<{recipient}> {SENT[0]}").code == 250
            assert client.message(b"Subject: hello\r\nMessage-ID: <1@example.com>\r\n\r\ntext\r\n").code == 250

    def notice(self) -> EmailMessage:
        (content,) = until(lambda: self.home.delivered, within=30)
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        return message


def fields(notice: EmailMessage) -> tuple[dict[str, str], dict[str, str]]:
    """What the delivery status says of the mail, and of its recipient."""
    mail, rcpt = notice.get_payload()[1].get_payload()  # type: ignore[union-attr,index]
    return dict(mail.items()), dict(rcpt.items())


def test_what_the_last_postfix_refuses_comes_back_with_all_that_the_sender_has_said(postfix: Any, start: Any) -> None:
    way = Way(postfix, start)
    way.send("nobody@elsewhere.test")
    mail, rcpt = fields(notice := way.notice())
    assert mail["Original-Envelope-Id"] == "QQ+1"
    assert (rcpt["Original-Recipient"], rcpt["Action"], rcpt["Status"]) == ("rfc822; No+body@far.test", "failed", "5.7.1")
    assert rcpt["Diagnostic-Code"].startswith("smtp; 554 5.7.1 ")
    (returned,) = notice.get_payload(2).get_payload()  # type: ignore[union-attr]
    assert (returned["Subject"], returned.get_payload().strip()) == ("hello", "text")


@pytest.mark.parametrize(
    ("far", "teller", "action"),
    [({"smtpd_discard_ehlo_keywords": "dsn"}, "queue.example.net", "relayed"), ({}, "postfix.example.com", "delivered")],
)
def test_success_is_told_by_the_last_one_who_knows_dsn(
    postfix: Any, start: Any, far: dict[str, str], teller: str, action: str
) -> None:
    way = Way(postfix, start, **far)
    way.send("box@far.test")
    mail, rcpt = fields(way.notice())
    assert (mail["Reporting-MTA"], rcpt["Action"]) == (f"dns; {teller}", action)
    assert (mail["Original-Envelope-Id"], rcpt["Status"][0]) == ("QQ+1", "2")
    assert rcpt["Original-Recipient"].replace(" ", "") == "rfc822;No+body@far.test"
    assert len(way.far.delivered) == 1
