"""What the RFCs leave open is done as Postfix does it; where not, the deviation stands here and in docs/rfcs.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer

MAIL, RCPT = "MAIL FROM:<a@client.test>", "RCPT TO:<box@example.com>"

ALIKE: dict[str, list[str]] = {
    "nested MAIL": [MAIL, MAIL],
    "RCPT first": [RCPT],
    "DATA first": ["DATA"],
    "DATA with an argument": [MAIL, RCPT, "DATA x"],
    "RSET with an argument": ["RSET x"],
    "NOOP with an argument": ["NOOP x"],
    "VRFY without an argument": ["VRFY"],
    "unknown": ["XYZZY"],
    "an unknown parameter of MAIL": [f"{MAIL} FOO=1"],
    "an unknown parameter of RCPT": [MAIL, f"{RCPT} FOO=1"],
    "SIZE too large": [f"{MAIL} SIZE=99999999999"],
    "SIZE that is none": [f"{MAIL} SIZE=x"],
    "BODY that is none": [f"{MAIL} BODY=9BIT"],
    "BODY that is not offered": [f"{MAIL} BODY=BINARYMIME"],
    "RET that is none": [f"{MAIL} RET=ALL"],
    "NOTIFY that is none": [MAIL, f"{RCPT} NOTIFY=NEVER,SUCCESS"],
    "ORCPT without a type": [MAIL, f"{RCPT} ORCPT=box@example.com"],
    "DSN as it should be": [f"{MAIL} RET=HDRS ENVID=a+2Bb", f"{RCPT} NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x@example.com"],
    "relaying": [MAIL, "RCPT TO:<x@elsewhere.test>"],
    "BDAT": [MAIL, RCPT, "BDAT 9 LAST\r\nX: 1\r\n\r\nx"],
    "BDAT in two": [MAIL, RCPT, "BDAT 8\r\nX: 1\r\n\r\n", "BDAT 0 LAST"],
    "BDAT before MAIL": ["BDAT 6\r\nQUIT\r\n", "NOOP"],
    "BDAT after BDAT LAST": [MAIL, RCPT, "BDAT 8 LAST\r\nX: 1\r\n\r\n", "BDAT 6 LAST\r\nQUIT\r\n", "NOOP"],
    "DATA after BDAT": [MAIL, RCPT, "BDAT 8\r\nX: 1\r\n\r\n", "DATA", "BDAT 0 LAST"],
    "RCPT after BDAT": [MAIL, RCPT, "BDAT 8\r\nX: 1\r\n\r\n", RCPT, "BDAT 0 LAST"],
    "MAIL after BDAT": [MAIL, RCPT, "BDAT 8\r\nX: 1\r\n\r\n", MAIL, "BDAT 0 LAST"],
    "RSET after BDAT": [MAIL, RCPT, "BDAT 8\r\nX: 1\r\n\r\n", "RSET", MAIL],
    "a bare LF ends a command": ["NOOP\nNOOP"],
    "a source route": ["MAIL FROM:<@x.test,@y.test:a@client.test>"],
    "postmaster": [MAIL, "RCPT TO:<postmaster>"],
    "the null sender": ["MAIL FROM:<>"],
    "the null recipient": [MAIL, "RCPT TO:<>"],
}
"""What is said behind EHLO."""

OTHERWISE: dict[str, tuple[list[str], list[int], list[int]]] = {
    "no brackets (RFC 5321 4.1.2 has none)": (["MAIL FROM:a@client.test"], [501], [250]),
    "no recipient (RFC 5321 3.3: 503 or 554)": ([MAIL, "DATA"], [250, 503], [250, 554]),
    "QUIT with an argument (RFC 5321 4.1.1.10: there is none)": (["QUIT x", "NOOP"], [501, 250], [221, 0]),
    "EXPN (RFC 5321 4.2.2: 502 is for a command that is known)": (["EXPN x"], [502], [500]),
    "BDAT that nobody can count: both hang up": ([MAIL, RCPT, "BDAT x", "NOOP"], [250, 250, 501, 0], [250, 250, 521, 0]),
}
"""What is said, our codes, those of Postfix; 0: it has hung up."""


def codes(port: int, said: list[str]) -> list[int]:
    with FakeClient.greeted(port) as client:
        return [_code(client, text) for text in said]


def _code(client: FakeClient, text: str) -> int:
    whole = text.startswith("BDAT") and "\r\n" in text
    try:
        client.raw(text.encode() + (b"" if whole else b"\r\n"))
        return client.reply().code
    except ConnectionError:
        return 0


@pytest.fixture
def ports(postfix: Callable[..., Any], start: Callable[..., RunningServer]) -> tuple[int, int]:
    """Ours, in front of Postfix, and its own."""
    mx = postfix({"mx": {}})
    return start(one_listener("proxy", f"127.0.0.1:{mx.ports['mx']}")).port, mx.ports["mx"]


def test_the_answers_are_those_of_postfix_where_nothing_speaks_against_it(ports: tuple[int, int]) -> None:
    ours, theirs = ({name: codes(port, said) for name, said in ALIKE.items()} for port in ports)
    assert ours == theirs


def test_where_they_are_not_it_is_known_why(ports: tuple[int, int]) -> None:
    for place, port in enumerate(ports, 1):
        assert {name: codes(port, case[0]) for name, case in OTHERWISE.items()} == {
            name: case[place] for name, case in OTHERWISE.items()
        }
