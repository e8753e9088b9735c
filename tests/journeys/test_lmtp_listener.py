"""Postfix's LMTP client -> our LMTP listener -> Dovecot's LMTP: every recipient has its own fate, and Postfix knows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.waiting import until

CONFIG = """
hostname = "front.example.com"
[listener.mailboxes]
bind = ["127.0.0.1:0"]
handoff = "dovecot"
protocol = "lmtp"
xforward_from = ["127.0.0.0/8"]
[handoff.dovecot]
kind = "{kind}"
to = ["lmtp://127.0.0.1:{port}"]
[relaying]
domains = ["example.com"]
"""
PICKY = """
from smtpproxy.script import deny

def on_message(mail):
    mail.header["X-Client"] = mail.client.forwarded.get("ADDR", "none")
    for rcpt in mail.recipients:
        if rcpt.local_part == "picky":
            rcpt.verdict = deny("Not this", code="550 5.7.2")
"""
USERS = ("alice", "bob", "nobody", "picky")


@pytest.fixture(params=["proxy", "relay"])
def hop(dovecot: Callable[..., Any], postfix: Callable[..., Any], start: Callable[..., RunningServer], request: Any) -> Any:
    mailboxes = dovecot("alice", "bob", "picky")
    ours = start(CONFIG.format(kind=request.param, port=mailboxes.port), {"10-picky.py": PICKY})
    mx = postfix({"mx": {}}, virtual_transport=f"lmtp:inet:127.0.0.1:{ours.port}", lmtp_send_xforward_command="yes")
    return mx, ours, mailboxes


def test_each_recipient_has_its_own_answer(hop: Any, swaks: Any) -> None:
    mx, ours, mailboxes = hop
    to = ",".join(f"{user}@example.com" for user in USERS)
    sent = swaks(mx.ports["mx"], "--from", "carol@client.test", "--to", to, "--local-interface", "127.0.0.2")
    assert sent.returncode == 0, sent.stdout
    fates = {user: mx.logged(f"to=<{user}@example.com>, relay=127.0.0.1[127.0.0.1]")[0] for user in USERS}
    assert all("status=sent (250 2." in fates[user] for user in ("alice", "bob")), fates
    assert "status=bounced" in fates["nobody"] and "said: 550 5.1.1" in fates["nobody"]
    assert "said: 550 5.7.2 Not this (in reply to end of DATA command)" in fates["picky"]
    for user in ("alice", "bob"):
        (stored,) = until(lambda user=user: mailboxes.delivered(user))
        assert b"by front.example.com with LMTP id" in stored
        assert b"X-Client: 127.0.0.2" in stored
    assert mailboxes.delivered("picky") == []
    (line,) = until(lambda: [line for line in ours.log.splitlines() if "event=message" in line])
    assert "alice@example.com" in line and "bob@example.com" in line and "picky" not in line
