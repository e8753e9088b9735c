"""The story of a message."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

from smtpproxy.scripting.trace import Trace, story
from smtpproxy.wire.reply import Reply

MAIL = SimpleNamespace(id="s1.1", sender="a@example.com", recipients=["b@example.com", "c@example.com"])


def told(trace: Trace, mail: Any = None) -> list[str]:
    """The story without times."""
    return [re.sub(r"^ *-?[\d.]+  |  \([\d.]+ ms\)$", "", line).strip() for line in story(trace, mail)]


def test_names_sender_and_recipients_first() -> None:
    assert told(Trace("s1"), MAIL) == ["message s1.1  from <a@example.com>  to <b@example.com>, <c@example.com>"]


def test_the_null_sender_and_nobody() -> None:
    nobody = SimpleNamespace(id="s1.1", sender="", recipients=[])
    assert told(Trace("s1"), nobody) == ["message s1.1  from <>  to no recipient"]


def test_events_in_order_with_their_times() -> None:
    trace = Trace("s1")
    trace.command(b"RCPT TO:<b@example.com>")
    trace.upstream("RCPT TO:<b@example.com>", Reply(250, "2.1.5", "Ok"), 1.0, 1.5)
    trace.door("dns.mx example.com", (), 1.0, 1.25)
    trace.edit("add X-Test")
    trace.note("anything")
    trace.reply(Reply(250, "2.1.5", "Ok"))
    assert told(trace) == [
        "session s1",
        "client    RCPT TO:<b@example.com>",
        "upstream  RCPT TO:<b@example.com> -> 250 2.1.5 Ok",
        "asked     dns.mx example.com -> ()",
        "edit      add X-Test",
        "note      anything",
        "reply     250 2.1.5 Ok",
    ]
    assert "(500.00 ms)" in story(trace)[2]


def test_hooks_and_failures(scripts: Any) -> None:
    scripts.load(a="def on_rcpt(mail, rcpt): pass", b="def on_rcpt(mail, rcpt):\n    help()\ndef help():\n    1/0")
    scripts.rcpt()
    a, b = (rule.version for rule in scripts.rules.table.rules)
    assert told(scripts.call.trace)[1:] == [
        f"rule      on_rcpt a [{a}]: continue",
        f"failed    on_rcpt b [{b}]: ZeroDivisionError: division by zero at b.py:4 -> defer",
        "b.py:2 in on_rcpt",
        "b.py:4 in help",
    ]


def test_the_frames_are_the_authors_own(scripts: Any) -> None:
    scripts.load(a="import json\ndef on_rcpt(mail, rcpt):\n    json.loads('{')")
    scripts.rcpt()
    assert told(scripts.call.trace)[-1] == "a.py:3 in on_rcpt"


def test_a_verdict_with_its_line(scripts: Any) -> None:
    scripts.load(a="from smtpproxy.script import deny\n\ndef on_rcpt(mail, rcpt):\n    return deny('No')")
    scripts.rcpt()
    assert told(scripts.call.trace)[-1].endswith(": deny 550 5.7.1 No at line 4")


def test_credentials_are_left_out() -> None:
    trace = Trace("s1")
    trace.command(b"AUTH PLAIN AGEAYg==")
    trace.command("auth login")
    assert told(trace)[1:] == ["client    AUTH PLAIN ...", "client    auth login ..."]


def test_the_greeting_stays_and_older_transactions_go() -> None:
    trace = Trace("s1")
    trace.command("EHLO x")
    for number in range(3):
        trace.begin()
        trace.note(f"mail {number}")
    assert told(trace)[1:] == ["client    EHLO x", "note      mail 2"]


def test_is_bounded() -> None:
    trace = Trace("s1", limit=10)
    for number in range(1000):
        trace.note(str(number))
    lines = told(trace)
    assert len(lines) == 12
    assert lines[1] == "... earlier events of this transaction were forgotten ..."
    assert lines[-1] == "note      999"
