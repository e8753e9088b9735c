"""The story of a message."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from smtpproxy.dns.zone import Zone
from smtpproxy.scripting.trace import CALLS_LIMIT, Trace, story, tell
from smtpproxy.wire.reply import Reply

MAIL = SimpleNamespace(id="s1.1", sender="a@example.com", recipients=["b@example.com", "c@example.com"])


def told(trace: Trace, mail: Any = None) -> list[str]:
    """The story without times."""
    return [re.sub(r"^ *-?[\d.]+  |  \([\d.]+ ms(?: CPU)?\)$", "", line).strip() for line in story(trace, mail)]


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


class TestRowsOfCalls:
    """Rules with nothing to say are kept by the moment at which they returned; the story tells each of them in its place."""

    def test_a_question_stands_before_the_call_that_asked_it(self, scripts: Any) -> None:
        scripts.doors["dns"] = Zone()
        quiet = "def on_rcpt(mail, rcpt): pass"
        scripts.load(a=quiet, b="from smtpproxy.script import dns\ndef on_rcpt(mail, rcpt): dns.a('x.example')", c=quiet)
        scripts.rcpt()
        words = [(event.kind, event.text.split(" [")[0]) for event in tell(scripts.call.trace)]
        assert [word if kind == "rule" else kind for kind, word in words] == [
            "on_rcpt a", "asked", "on_rcpt b", "on_rcpt c",
        ]  # fmt: skip

    def test_the_row_goes_on_behind_a_failure_and_behind_a_rule_that_is_skipped(self, scripts: Any) -> None:
        quiet = "def on_rcpt(mail, rcpt): pass"
        scripts.load(
            a=quiet, b="import gevent\non_error='continue'\ndef on_rcpt(mail, rcpt):\n    gevent.sleep(.05); 1/0", c=quiet,
            d=quiet, e=quiet,
        )  # fmt: skip
        scripts.call.mail = SimpleNamespace(id="s1.1", skipped={"d"}, held=None)
        scripts.rcpt()
        events = tell(scripts.call.trace)
        assert [event.text.split(" [")[0].split(":")[0] for event in events] == [
            "on_rcpt a", "on_rcpt b", "on_rcpt c", "rule d is skipped at on_rcpt", "on_rcpt e",
        ]  # fmt: skip
        assert [event.kind for event in events] == ["rule", "failed", "rule", "note", "rule"]
        failed, behind = events[1], events[2]
        assert failed.ms is not None and failed.ms >= 50
        assert behind.ms is not None and behind.ms < 50, "what the rule before it took is not its"

    def test_is_bounded_by_calls_too(self) -> None:
        trace, rule = Trace("s1"), SimpleNamespace(title="on_rcpt a [1]")
        for number in range(100):
            trace.command(f"RCPT TO:<{number}@example.com>")
            tick = trace.calls(trace.started, [rule] * 100)
            for _ in range(100):
                tick(trace.started)
        told = tell(trace)
        assert sum(event.kind == "rule" for event in told) <= CALLS_LIMIT
        assert told[0].text == "... earlier events of this transaction were forgotten ..."
        assert [event.text for event in told if event.kind == "client"][-1] == "RCPT TO:<99@example.com>"
        trace.begin()
        assert trace.called == 0


class TestTime:
    """Of each call of a rule: how long it waited, and how long it computed."""

    @pytest.fixture
    def timed(self, scripts: Any) -> Iterator[Any]:
        """Tells the one line about the rule, and its milliseconds: all, waiting, CPU (None: hardly any)."""
        scripts.doors["dns"] = Zone()
        scripts.rules.start()

        def run(text: str) -> tuple[str, float, float, float | None]:
            scripts.load(a=text)
            scripts.rcpt()
            (event,) = [event for event in tell(scripts.call.trace) if event.kind in ("rule", "failed")]
            (line,) = [line for line in story(scripts.call.trace) if f" {event.kind} " in line]
            assert event.ms is not None
            return line, event.ms, event.waited, event.cpu

        yield run
        scripts.rules.stop()

    def test_a_short_call_is_all_cpu(self, timed: Any) -> None:
        line, ms, waited, cpu = timed("def on_rcpt(mail, rcpt): sum(range(1000))")
        assert (waited, cpu) == (0.0, ms)
        assert re.search(r"  \([\d.]+ ms CPU\)$", line)

    def test_a_call_that_computes_is_metered(self, timed: Any) -> None:
        line, ms, _, cpu = timed(
            "import time\ndef on_rcpt(mail, rcpt):\n    end = time.thread_time() + .1\n    while time.thread_time() < end: pass"
        )
        assert 70 < cpu <= ms
        assert re.search(r" ms: [\d.]+ waiting, [\d.]+ CPU\)$", line)

    def test_a_call_that_sleeps_is_all_waiting(self, timed: Any) -> None:
        line, _, waited, cpu = timed("import gevent\ndef on_rcpt(mail, rcpt): gevent.sleep(.1)")
        assert waited > 85 and cpu is None
        assert line.endswith(" waiting, hardly any CPU)")

    def test_others_do_not_count_while_it_waits(self, timed: Any) -> None:
        def busy() -> None:
            end = time.monotonic() + 0.15
            while time.monotonic() < end:
                pass

        gevent.spawn_later(0.01, busy)
        _, ms, _, cpu = timed("import gevent\ndef on_rcpt(mail, rcpt): gevent.sleep(.05)")
        assert ms > 100
        assert cpu is None or cpu < 30

    def test_a_call_that_fails_has_its_time_too(self, timed: Any) -> None:
        line, ms, waited, cpu = timed("import gevent\ndef on_rcpt(mail, rcpt):\n    gevent.sleep(.05)\n    1/0")
        assert "failed" in line and ms > 45 and waited > 35 and cpu is None
