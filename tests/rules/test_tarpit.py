"""Clients with bad marks are answered slowly."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent
from typing import Any

import gevent
import pytest
from gevent.event import Event

from smtpproxy.scripting import bundled
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.front import ENVELOPE, Front
from smtpproxy.testing.rules import RuleBroken, run_rule
from smtpproxy.testing.waiting import FixedClock, until

RULE = bundled.FOLDER / "tarpit.py"
Fronted = Callable[..., Front]


def held(client: dict[str, Any], verb: str = "NOOP", **settings: Any) -> float:
    """How long the answer to a command waits."""
    clock = FixedClock(0)
    run_rule(RULE, "on_command", settings=settings, client=client, clock=clock, verb=verb, argument="")
    return clock.now


@pytest.mark.parametrize(
    ("client", "seconds"),
    [
        ({}, 0),
        ({"errors": 2}, 0),
        ({"errors": 3}, 0.5),
        ({"errors": 5}, 1.5),
        ({"errors": 3, "recipients_refused": 3}, 2.0),
        ({"errors": 1000}, 4.0),
        ({"errors": 1000, "trusted": True}, 0),
    ],
    ids=str,
)
def test_it_grows_with_the_marks_up_to_a_bound(client: dict[str, Any], seconds: float) -> None:
    assert held(client) == seconds


def test_the_steps_are_the_operators() -> None:
    client = {"errors": 3, "recipients_refused": 2}
    assert held(client, step="100ms", free=1, refused_recipient=4) == 1.0
    assert held(client, longest="700ms") == pytest.approx(0.7)


def test_who_leaves_is_not_held() -> None:
    assert held({"errors": 100}, "QUIT") == 0


def test_a_bound_that_no_call_may_take_is_refused_when_it_is_loaded() -> None:
    with pytest.raises(RuleBroken, match="longest: 4s at most, not 10s"):
        held({}, longest="10s")


MARKS = """
    def on_connect(client):
        client.results.add("dnsbl", "fail")
    def on_mail(mail, sender):
        mail.results.add("spf", "fail")
        mail.notes.tarpit = 1
    def on_ehlo(client, name):
        client.notes.tarpit = 3
"""


class TestOverASocket:
    def test_what_other_rules_found_counts(self, front: Fronted) -> None:
        slept: list[float] = []
        here = front(tarpit={"step": "100ms"}, rules={"10-marks.py": dedent(MARKS)}, doors={"sleep": slept.append})
        client = here.begun()
        client.message(b"Subject: x\r\n\r\n")
        # EHLO: 2 for the list, which are free; then 3 of the note for MAIL, RCPT, DATA; 2 + 1 of the mail for RCPT and DATA
        assert [round(seconds, 3) for seconds in slept] == [0.3, 0.3, 0.3, 0.3, 0.3]
        (session,) = here.sessions
        assert session.client.results.get("tarpit").keys["seconds"] == pytest.approx(1.5)  # type: ignore[union-attr]

    def test_a_guesser_is_slowed_down_and_a_good_client_is_not(self, front: Fronted) -> None:
        slept: list[float] = []
        here = front(tarpit={}, doors={"sleep": slept.append})
        client = here.client()
        client.send(ENVELOPE[0])
        for name in "abcd":
            assert client.send(f"RCPT TO:<{name}@elsewhere.example>").code == 554
        assert slept == [1.0, 2.0]
        with here.begun() as good:
            assert good.message(b"Subject: x\r\n\r\n").code == 250
        assert slept == [1.0, 2.0]

    def test_no_more_are_held_than_there_is_room_for(self, front: Fronted) -> None:
        pit, held = Event(), []

        def sleep(seconds: float) -> None:
            held.append(seconds)
            pit.wait()

        here = front(tarpit={"sessions": 2, "free": 0}, doors={"sleep": sleep})
        clients = [here.client() for _ in range(4)]
        for client in clients:
            client.send("NONSENSE")
        for client in clients[:2]:
            client.raw(b"NOOP\r\n")
        until(lambda: len(held) == 2)
        assert [client.send("NOOP").code for client in clients[2:]] == [250, 250]
        pit.set()
        assert [client.reply().code for client in clients[:2]] == [250, 250]
        clients[0].send("NOOP")
        assert len(held) == 3

    def test_the_answer_comes_late(self, front: Fronted) -> None:
        client: FakeClient = front(tarpit={"step": "150ms", "free": 0}).client()
        client.send("NONSENSE")
        with gevent.Timeout(15):
            client.raw(b"NOOP\r\n")
            assert client.quiet(0.05)
            assert client.reply().code == 250
