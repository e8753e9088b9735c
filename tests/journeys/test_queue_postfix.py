"""A mail program -> submission with a login -> our queue -> Postfix: what got 250 arrives, once, however slow Postfix is."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.waiting import until

CONFIG = """
hostname = "submission.example.com"
[listener.submission]
bind = ["127.0.0.1:0"]
handoff = "outbound"
auth = "staff"
auth_without_tls = true
submission = true
[users.staff]
kind = "file"
path = "users"
[handoff.outbound]
kind = "queue"
[queue]
retry = ["300ms"]
[route."*"]
to = ["127.0.0.1:{port}"]
"""
PASSWORD = "correct horse battery"


@pytest.fixture
def server(start: Callable[..., RunningServer], tmp_path: Path) -> Callable[..., RunningServer]:
    def begin(port: int, rules: dict[str, str] | None = None) -> RunningServer:
        server = start(CONFIG.format(port=port), rules or {})
        command = [sys.executable, "-m", "smtpproxy", "user", "add", "--file", str(server.folder / "users"), "alice"]
        subprocess.run([*command, "--password-stdin"], input=PASSWORD.encode(), check=True, timeout=30)
        return server

    (tmp_path / "server0").mkdir()
    (tmp_path / "server0" / "users").touch()
    return begin


def submit(server: RunningServer, subject: str, *recipients: str) -> None:
    with FakeClient.greeted(server.port) as client:
        token = base64.b64encode(b"\0alice\0" + PASSWORD.encode()).decode()
        assert client.send(f"AUTH PLAIN {token}").code == 235
        client.send("MAIL FROM:<alice@submission.example.com>")
        for recipient in recipients:
            assert client.send(f"RCPT TO:<{recipient}>").code == 250
        assert client.message(f"Subject: {subject}\r\n\r\n.text\r\n".encode()).code == 250


def test_mail_of_a_login_comes_to_the_mailbox(postfix: Any, server: Callable[..., RunningServer]) -> None:
    mx = postfix({"mx": {}})
    submit(server(mx.ports["mx"]), "hello", "box@example.com")
    (message,) = until(lambda: mx.delivered)
    assert b"Subject: hello" in message
    assert b"\n.text\n" in message
    assert b"with ESMTPA" in message


def test_mail_of_a_rule_comes_to_the_mailbox(postfix: Any, server: Callable[..., RunningServer]) -> None:
    mx = postfix({"mx": {}})
    rule = 'function on_message(mail) submit("box@example.com", "Größe", mail.sender.local_part .. "\\n.two\\n") end\n'
    submit(server(mx.ports["mx"], {"10-tell.lua": rule}), "hello", "box@example.com")
    messages = until(lambda: len(found := mx.delivered) == 2 and found)
    (told,) = (message for message in messages if b"Auto-Submitted: auto-generated" in message)
    assert b"by submission.example.com (smtpproxy, rule 10-tell)" in told
    assert b"Subject: =?utf-8?" in told
    assert b"From: postmaster@submission.example.com" in told
    assert told.endswith(b"\n\nalice\n.two\n")



def test_postfix_is_down_and_comes_back(postfix: Any, server: Callable[..., RunningServer]) -> None:
    mx = postfix({"mx": {}})
    mx.stop()
    submitted = server(mx.ports["mx"])
    submit(submitted, "hello", "box@example.com")
    until(lambda: "event=deferred" in submitted.log)
    mx.start()
    (message,) = until(lambda: mx.delivered, within=20)
    assert b"Subject: hello" in message


def test_what_postfix_refuses_goes_back_and_the_others_have_it_once(
    postfix: Any, server: Callable[..., RunningServer]
) -> None:
    mx = postfix({"mx": {}}, virtual_mailbox_domains="example.com submission.example.com")
    submit(server(mx.ports["mx"]), "hello", "box@example.com", "box@elsewhere.test")
    until(lambda: len(mx.delivered) == 2, within=20)
    notice, mail = sorted(mx.delivered, key=lambda message: b"multipart/report" not in message)
    assert b"Status: 5.7.1" in notice
    assert b"Final-Recipient: rfc822; box@elsewhere.test" in notice
    assert b"Subject: hello" in mail


def test_a_postfix_that_takes_long_after_the_dot_gets_one_copy(postfix: Any, server: Callable[..., RunningServer]) -> None:
    mx = postfix({"mx": {"smtpd_end_of_data_restrictions": "sleep 4"}})
    submitted = server(mx.ports["mx"])
    submit(submitted, "slow", "box@example.com")
    until(lambda: "event=delivered" in submitted.log, within=30)
    assert len(mx.delivered) == 1
    assert "event=deferred" not in submitted.log
