from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smtpproxy.net.http import HttpError
from smtpproxy.scripting.doors.cache import Kept
from smtpproxy.testing.doors import FakeHttp
from smtpproxy.testing.rules import Outcome, run_rule
from smtpproxy.testing.waiting import FixedClock

SAMPLES = Path(__file__).parents[2] / "scripts" / "samples"
FILES = [SAMPLES / "block-list-from-http.py", SAMPLES / "lua" / "block-list-from-http.lua"]
URL = "https://lists.example.com/blocked.json"


class Server:
    """One with a block list."""

    def __init__(self, rule: Path) -> None:
        self.rule = rule
        self.clock = FixedClock()
        self.cache = Kept(self.clock)
        self.http = FakeHttp({URL: {"domains": ["bad.example", "worse.example"]}})

    def mail_from(self, sender: str) -> Outcome:
        return run_rule(self.rule, "on_mail", http=self.http, cache=self.cache, clock=self.clock, sender=sender)


@pytest.fixture(params=FILES, ids=lambda file: file.suffix)
def server(request: pytest.FixtureRequest) -> Server:
    return Server(request.param)


def test_listed_senders_are_refused(server: Server) -> None:
    assert server.mail_from("a@bad.example").reply == "550 5.7.1 Mail from bad.example is not wanted here"
    assert server.mail_from("a@good.example").verdict is None
    assert server.mail_from("").verdict is None


def test_the_list_is_asked_for_every_five_minutes(server: Server) -> None:
    for _ in range(3):
        server.mail_from("a@bad.example")
    assert len(server.http.asked) == 1
    server.clock.advance(301)
    server.http.answers = {URL: {"domains": ["other.example"]}}
    assert server.mail_from("a@bad.example").verdict is None
    assert server.mail_from("a@other.example").reply.startswith("550")
    assert len(server.http.asked) == 2


@pytest.mark.parametrize("answer", [HttpError("too slow"), 500, "<html>", {"other": 1}], ids=str)
def test_while_it_cannot_be_had_the_last_one_counts(server: Server, answer: Any) -> None:
    server.mail_from("a@bad.example")
    server.http.answers = {URL: answer}
    server.clock.advance(301)
    outcome = server.mail_from("a@bad.example")
    assert outcome.reply.startswith("550")
    assert [fields["text"] for event, fields in outcome.logged if event == "rule"] == ["the block list is not to be had"]


def test_without_any_list_mail_goes_on(server: Server) -> None:
    server.http.answers = {}
    assert server.mail_from("a@bad.example").verdict is None
