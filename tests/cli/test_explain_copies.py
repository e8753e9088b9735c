"""`smtpproxy explain` of mail with copies, and with verdicts on single recipients."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

from smtpproxy.testing.front import ENVELOPE
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import until

RULE = """\
from smtpproxy.script import deny

def on_message(mail):
    mail.keep_trace()
    mail.copy_for("vip@example.com").header["X-Copy"] = "vip"
    mail.add_copy("archive")
    if mail.header["Subject"] == "no":
        mail.recipients[0].verdict = deny("Not this one")
"""
MORE = '[handoff.archive]\nkind = "quarantine"\nfolder = "archive"\n'


def explained(server: RunningServer, mail_id: str) -> str:
    """What it prints, as soon as the trace is on disk."""
    command = [sys.executable, "-m", "smtpproxy", "explain", mail_id, "--config", str(server.folder)]
    done = until(lambda: _done(command), 10.0, mail_id)
    return re.sub(r" at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "", done.stdout)


def _done(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done if done.returncode == 0 else None


def test_who_got_what_and_why_not(start: Callable[..., RunningServer], upstream: FakeUpstream) -> None:
    server = start(one_listener("proxy", upstream.address, more=MORE), {"10-copies.py": RULE})
    client = server.client()
    for subject, code in ((b"yes", 250), (b"no", 550)):
        for command in (*ENVELOPE, "RCPT TO:<vip@example.com>"):
            assert client.send(command).code == 250
        assert client.message(b"Subject: " + subject + b"\r\n\r\nhello\r\n").code == code

    story = explained(server, "vip@example.com")
    assert story.startswith("<b@example.com> was refused by rule 10-copies, 10-copies.py:8 in on_message: 550 5.7.1 Not this one")
    assert "verdict on <b@example.com>: deny 550 5.7.1 Not this one" in story

    first = re.search(r"older ones with this address: (\S+)", story)
    assert first
    story = explained(server, first[1].rstrip(","))
    assert "edit      append X-Copy: vip (for <vip@example.com>)" in story
    assert "a copy for <b@example.com>, <vip@example.com> to archive" in story
    assert f"their copy for <vip@example.com> to {upstream.address}" in story
    assert story.count("RCPT TO:<vip@example.com> -> 250") == 2, "with the others at first, then by itself"
    assert sorted(message.recipients for message in upstream.messages) == [["b@example.com"], ["vip@example.com"]]
