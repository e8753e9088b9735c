"""Extensions: read from a server, offered to a client, met in the middle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpproxy.wire.extensions import Extensions, intersect
from smtpproxy.wire.reply import Reply, ReplyParser


def test_reading_an_offer() -> None:
    offer = Extensions.parse(
        ["PIPELINING", "size 10240000", "AUTH PLAIN LOGIN", "AUTH=LOGIN CRAM-MD5", "8BITMIME ", "", "?what", "AUTH"]
    )
    assert dict(offer) == {
        "PIPELINING": "",
        "SIZE": "10240000",
        "AUTH": "PLAIN LOGIN CRAM-MD5",
        "8BITMIME": "",
    }
    assert list(offer) == ["PIPELINING", "SIZE", "AUTH", "8BITMIME"]
    assert "AUTH" in offer and "DSN" not in offer and len(offer) == 4
    assert repr(Extensions({"dsn": ""})) == "Extensions({'DSN': ''})"


@pytest.mark.parametrize(
    ("lines", "size"),
    [
        (["SIZE 100"], 100),
        (["SIZE"], None),
        (["SIZE 0"], None),
        ([], None),
        (["SIZE x"], None),
        (["SIZE " + "9" * 500], None),
        (["SIZE=5"], 5),
    ],
)
def test_size(lines: list[str], size: int | None) -> None:
    assert Extensions.parse(lines).size == size


def test_the_reply_to_ehlo() -> None:
    offer = Extensions([("PIPELINING", ""), ("SIZE", "50000000")])
    assert offer.reply("mx.example.com") == Reply(250, "", "mx.example.com", "PIPELINING", "SIZE 50000000")
    assert bytes(Extensions().reply("mx", "at your service")) == b"250 mx at your service\r\n"


OURS = Extensions.parse(
    [
        "PIPELINING", "SIZE 50000000", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "DSN", "STARTTLS", "AUTH PLAIN",
        "CHUNKING",
        "BINARYMIME", "REQUIRETLS", "XCLIENT NAME ADDR", "HELP",
    ]
)  # fmt: skip
HOP = {
    "PIPELINING": "", "SIZE": "50000000", "ENHANCEDSTATUSCODES": "", "STARTTLS": "", "AUTH": "PLAIN", "CHUNKING": "",
    "XCLIENT": "NAME ADDR", "HELP": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("upstream", "difference"),
    [
        ([], {}),
        (["8BITMIME", "DSN"], {"8BITMIME": "", "DSN": ""}),
        (["SMTPUTF8"], {"SMTPUTF8": ""}),
        (["SIZE 1000"], {"SIZE": "1000"}),
        (["SIZE 999000000"], {}),
        (["SIZE"], {}),
        (["AUTH GSSAPI", "STARTTLS", "VRFY", "ETRN", "XFORWARD ADDR", "X-NEW", "XCLIENT LOGIN"], {}),
        (["BINARYMIME"], {}),
        (["BINARYMIME", "CHUNKING"], {"BINARYMIME": ""}),
        (["REQUIRETLS"], {"REQUIRETLS": ""}),
        (["DELIVERBY 240", "MT-PRIORITY"], {}),
    ],
)
def test_in_front_of_an_upstream(upstream: list[str], difference: dict[str, str]) -> None:
    assert dict(intersect(OURS, Extensions.parse(upstream))) == {**HOP, **difference}


def test_in_front_of_an_upstream_never_seen() -> None:
    assert set(intersect(OURS, None)) == {"PIPELINING", "SIZE", "ENHANCEDSTATUSCODES", "STARTTLS", "AUTH", "XCLIENT"}
    plain = Extensions.parse(["PIPELINING", "SIZE 10", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "CHUNKING", "HELP"])
    assert dict(intersect(plain, None)) == {"PIPELINING": "", "SIZE": "10", "ENHANCEDSTATUSCODES": ""}


def test_no_limit_of_our_own() -> None:
    assert intersect(Extensions({"SIZE": ""}), Extensions({"SIZE": "77"})).size == 77


def test_limits_are_the_smaller_of_both() -> None:
    ours = Extensions({"LIMITS": "RCPTMAX=1000 MAILMAX=50"})
    upstream = Extensions({"LIMITS": "RCPTMAX=100 RCPTDOMAINMAX=1 X=?"})
    assert intersect(ours, upstream)["LIMITS"] == "RCPTMAX=100 MAILMAX=50 RCPTDOMAINMAX=1"
    assert intersect(ours, Extensions())["LIMITS"] == "RCPTMAX=1000 MAILMAX=50"


def test_the_upstreams_parameters_count_for_what_it_keeps() -> None:
    assert intersect(Extensions({"DELIVERBY": ""}), Extensions({"DELIVERBY": "240"}))["DELIVERBY"] == "240"


_keywords = st.from_regex(r"[A-Z0-9][A-Z0-9-]{0,9}", fullmatch=True)
_offers = st.dictionaries(_keywords, st.lists(st.from_regex(r"[!-<>-~]{1,8}", fullmatch=True), unique=True).map(" ".join))


@given(_offers)
def test_an_offer_written_is_read_back(offered: dict[str, str]) -> None:
    parser = ReplyParser()
    replies = [parser.feed(line) for line in bytes(Extensions(offered).reply("mx")).split(b"\r\n")[:-1]]
    reply = replies[-1]
    assert reply is not None
    assert dict(Extensions.parse(reply.lines[1:])) == offered


@given(_offers, _offers)
def test_nothing_but_ours_is_ever_offered(ours: dict[str, str], upstream: dict[str, str]) -> None:
    assert set(intersect(Extensions(ours), Extensions(upstream))) <= set(ours)
