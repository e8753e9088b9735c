"""headers: what is refused, what is tagged, what is let pass."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from smtpproxy.testing.front import Front
from smtpproxy.testing.handoffs import FakeOutlet
from smtpproxy.testing.rules import Outcome

Ask = Callable[..., Outcome]


def dated(days: float) -> str:
    return f"Date: {format_datetime(datetime.now(UTC) + timedelta(days=days))}"


NOW = dated(0)
GOOD = ["From: a@client.example", NOW, "To: b@example.com", "Subject: hello"]


def message(*fields: str) -> bytes:
    return "".join(f"{field}\r\n" for field in fields).encode() + b"\r\nHello\r\n"


@pytest.mark.parametrize(
    ("fields", "reply"),
    [
        (GOOD, ""),
        (GOOD[1:], "550 5.6.0 The header of this mail is refused: From is missing"),
        (["From: ", *GOOD[1:]], "550 5.6.0 The header of this mail is refused: From is missing"),
        ([GOOD[0]], "550 5.6.0 The header of this mail is refused: Date is missing"),
        ([*GOOD, "subject: again"], "550 5.6.0 The header of this mail is refused: Subject is there more than once"),
        ([*GOOD, "Comments: 1", "Comments: 2"], ""),
        ([*GOOD, *["Received: from a by b"] * 50], ""),
        (
            [*GOOD, *["Received: from a by b"] * 51],
            "554 5.4.6 The header of this mail is refused: came through more than 50 servers",
        ),
        (
            [*GOOD, "Delivered-To: Recipient@Example.com"],
            "554 5.4.6 The header of this mail is refused: was delivered to its recipient before",
        ),
        ([*GOOD, "Delivered-To: other@example.com"], ""),
        ([*GOOD, "X-Long: " + "x" * 900] + ["X-More: " + "y" * 990] * 140,
         "552 5.3.4 The header of this mail is refused: has more than 131072 octets"),
        (GOOD + ["X-A: b"] * 1000, "552 5.3.4 The header of this mail is refused: has more than 1000 fields"),
    ],
)  # fmt: skip
def test_what_is_refused(ask: Ask, fields: list[str], reply: str) -> None:
    outcome = ask("headers", "on_header", message=message(*fields))
    assert outcome.reply == reply
    found = outcome.mail.results.get("headers")
    assert found is not None and found.value == ("fail" if reply else "pass")


@pytest.mark.parametrize(
    ("date", "tag"),
    [
        (NOW, None),
        (dated(-14), None),
        (dated(-16), "Date is too long ago"),
        (dated(1), None),
        (dated(3), "Date is in the future"),
        ("Date: yesterday", "Date is no date"),
        ("Date: Mon, 99 Nov 2026 17:00:00 +0000", "Date is no date"),
        ("Date: Mon, 23 Nov 99999999 17:00:00 +0000", "Date is no date"),
        (NOW.replace("+0000", "-0000"), None),
    ],
)
def test_dates_are_tagged_unless_told_otherwise(ask: Ask, date: str, tag: str | None) -> None:
    mail = message(GOOD[0], date)
    outcome = ask("headers", "on_header", message=mail)
    assert (outcome.reply, outcome.mail.header["X-Header-Check"]) == ("", tag)
    assert bool(ask("headers", "on_header", message=mail, settings={"date": "refuse"}).reply) is bool(tag)


def test_every_check_can_tag_or_be_off(ask: Ask) -> None:
    bad = message("To: b", "To: c", "Delivered-To: recipient@example.com", "Date: never")
    words = ("missing", "repeated", "date", "loop", "size")
    outcome = ask("headers", "on_header", message=bad, settings=dict.fromkeys(words, "tag"))
    assert outcome.reply == ""
    assert outcome.mail.header["X-Header-Check"] == (
        "was delivered to its recipient before; From is missing; To is there more than once; Date is no date"
    )
    outcome = ask("headers", "on_header", message=bad, settings=dict.fromkeys(words, "off"))
    assert (outcome.reply, outcome.mail.header["X-Header-Check"]) == ("", None)


def test_a_tag_from_outside_is_not_believed(ask: Ask) -> None:
    outcome = ask("headers", "on_header", message=message(*GOOD, "X-Header-Check: all is well"))
    assert outcome.mail.header["X-Header-Check"] is None


def test_mail_is_refused_before_its_body_is_looked_at_and_tagged_mail_goes_on(front: Callable[..., Any]) -> None:
    out = FakeOutlet("out", live=True)
    made: Front = front(out, headers={})
    client = made.begun()
    assert client.message(message("To: b@example.com")) == "550 5.6.0 The header of this mail is refused: From is missing"
    for command in ("MAIL FROM:<a@client.example>", "RCPT TO:<b@example.com>"):
        assert client.send(command).code == 250
    assert client.message(message(GOOD[0], dated(-100))).code == 250
    (letter,) = out.delivered
    assert b"X-Header-Check: Date is too long ago\r\n" in letter.content
