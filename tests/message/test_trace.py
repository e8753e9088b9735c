"""The Received line says who gave us the message, whatever that one calls itself."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpproxy.message.trace import count_received, protocol_name, received_from, received_line, smtp_date

DATE = "Thu, 21 Nov 2024 10:05:00 +0100"


def line(**changes: str | None) -> str:
    facts: dict[str, str | None] = {
        "client_name": "client.example",
        "client_address": "192.0.2.1",
        "helo": "helo.example",
        "hostname": "mx.example.com",
        "protocol": "ESMTP",
        "id": "4XyZ",
        "recipient": "a@example.com",
        "date": DATE,
    }
    facts |= changes
    rest = {name: facts.pop(name) for name in ("id", "recipient", "date")}
    return received_line(received_from(**facts), **rest).decode()  # type: ignore[arg-type]


def test_the_line() -> None:
    assert line() == (
        "Received: from helo.example (client.example [192.0.2.1])\r\n"
        "\tby mx.example.com with ESMTP id 4XyZ\r\n"
        f"\tfor <a@example.com>; {DATE}\r\n"
    )


def test_without_a_recipient_to_name() -> None:
    assert line(recipient=None).endswith(f"\tby mx.example.com with ESMTP id 4XyZ;\r\n\t{DATE}\r\n")


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"client_address": "2001:db8::1"}, "helo.example (client.example [IPv6:2001:db8::1])"),
        ({"client_name": None}, "helo.example ([192.0.2.1])"),
        ({"helo": ""}, "[192.0.2.1] (client.example [192.0.2.1])"),
        ({"helo": "[192.0.2.9]"}, "[192.0.2.9] (client.example [192.0.2.1])"),
        ({"helo": "a (b"}, "a??b (client.example [192.0.2.1])"),
        ({"helo": "a\r\nBcc: x"}, "a??Bcc:?x (client.example [192.0.2.1])"),
        ({"client_name": "a)\r\n"}, "helo.example (a??? [192.0.2.1])"),
        ({"client_address": "", "client_name": None}, "helo.example (localhost)"),
    ],
)
def test_who_it_came_from(changes: dict[str, str | None], first: str) -> None:
    assert line(**changes).split("\r\n")[0] == f"Received: from {first}"


def test_words_about_tls_stand_in_a_comment() -> None:
    assert "with ESMTPS (TLSv1.3 \\(x\\) \\\\) id 4XyZ" in line(protocol="ESMTPS", tls="TLSv1.3 (x) \\")


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_strangers_cannot_break_the_line(helo: str, name: str, recipient: str, tls: str) -> None:
    text = line(helo=helo, client_name=name, recipient=recipient, tls=tls)
    assert text.count("\n") == text.count("\r\n") == text.count("\n\t") + 1 == 3
    assert "\0" not in text


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"esmtp": False}, "SMTP"),
        ({"esmtp": True}, "ESMTP"),
        ({"esmtp": True, "tls": True}, "ESMTPS"),
        ({"esmtp": True, "login": True}, "ESMTPA"),
        ({"esmtp": True, "tls": True, "login": True}, "ESMTPSA"),
        ({"esmtp": True, "utf8": True}, "UTF8SMTP"),
        ({"esmtp": True, "utf8": True, "tls": True, "login": True}, "UTF8SMTPSA"),
        ({"esmtp": True, "lmtp": True}, "LMTP"),
        ({"esmtp": True, "lmtp": True, "tls": True, "login": True}, "LMTPSA"),
        ({"esmtp": True, "lmtp": True, "utf8": True}, "UTF8LMTP"),
    ],
)
def test_the_protocol_has_the_registered_name(facts: dict[str, bool], name: str) -> None:
    assert protocol_name(**facts) == name


@pytest.mark.parametrize(
    ("timestamp", "offset", "date"),
    [
        (0, 0, "Thu, 1 Jan 1970 00:00:00 +0000"),
        (1732179900.9, 60, "Thu, 21 Nov 2024 10:05:00 +0100"),
        (0, -90, "Wed, 31 Dec 1969 22:30:00 -0130"),
        (1709210096, 345, "Thu, 29 Feb 2024 18:19:56 +0545"),
    ],
)
def test_dates(timestamp: float, offset: int, date: str) -> None:
    assert smtp_date(timestamp, offset) == date


def test_received_fields_are_counted() -> None:
    header = b"Received: a\r\n\tReceived: no\r\nRECEIVED: b\r\nX-Received: no\r\nreceived:c\r\n\r\n"
    assert count_received(header) == 3
    assert count_received(b"") == 0


def test_the_line_is_counted_by_the_next_server() -> None:
    assert count_received(line().encode()) == 1
    assert re.fullmatch(r"(\S.*\r\n)(\t.*\r\n){2}", line())
