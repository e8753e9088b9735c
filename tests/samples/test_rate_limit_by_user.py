from __future__ import annotations

from pathlib import Path

import pytest

from smtpproxy.stores.memory import MemoryStore
from smtpproxy.testing.rules import run_rule
from smtpproxy.testing.waiting import FixedClock

SAMPLES = Path(__file__).parents[2] / "scripts" / "samples"
FILES = [SAMPLES / "rate-limit-by-user.py", SAMPLES / "lua" / "rate-limit-by-user.lua"]


class Sender:
    """One who sends with a limit of three recipients an hour."""

    def __init__(self, rule: Path) -> None:
        self.rule = rule
        self.clock = FixedClock()
        self.store = MemoryStore(self.clock)

    def send(self, login: str | None = "alice") -> str:
        outcome = run_rule(
            self.rule, "on_rcpt", settings={"recipients": 3}, store=self.store, clock=self.clock, client={"login": login}
        )
        return outcome.reply


@pytest.fixture(params=FILES, ids=lambda file: file.suffix)
def sender(request: pytest.FixtureRequest) -> Sender:
    return Sender(request.param)


def test_above_the_limit_is_deferred(sender: Sender) -> None:
    assert [sender.send() for _ in range(3)] == ["", "", ""]
    assert sender.send() == "450 4.7.1 Too many recipients for now, try again later"


def test_each_user_has_a_limit_of_his_own(sender: Sender) -> None:
    for _ in range(4):
        sender.send()
    assert sender.send("bob") == ""


def test_an_hour_later_it_goes_on(sender: Sender) -> None:
    for _ in range(4):
        sender.send()
    sender.clock.advance(3700)
    assert sender.send() == ""


def test_who_has_not_logged_in_is_not_counted(sender: Sender) -> None:
    assert [sender.send(None) for _ in range(5)] == [""] * 5
    assert len(sender.store) == 0
