from __future__ import annotations

import email.utils
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpproxy.message.mailboxes import mailboxes


def read(value: str | bytes) -> list[tuple[str, str]]:
    return [(box.phrase, str(box)) for box in mailboxes(value if isinstance(value, bytes) else value.encode())]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("ann@example.com", [("", "ann@example.com")]),
        ("Ann Lee <ann@example.com>", [("Ann Lee", "ann@example.com")]),
        ('"Lee, Ann" <ann@Example.COM>', [("Lee, Ann", "ann@example.com")]),
        ('"A \\"B\\" C"<ann@example.com>', [('A "B" C', "ann@example.com")]),
        ("ann@example.com (Ann Lee (the elder))", [("Ann Lee (the elder)", "ann@example.com")]),
        ("ann@example.com, Bob <bob@example.org>", [("", "ann@example.com"), ("Bob", "bob@example.org")]),
        ("Team: a@b.example, c@d.example;, e@f.example", [("", "a@b.example"), ("", "c@d.example"), ("", "e@f.example")]),
        ("undisclosed-recipients:;", []),
        ("=?utf-8?q?J=C3=BCrgen?= <j@example.com>", [("Jürgen", "j@example.com")]),
        ("Jürgen <j@example.com>", [("Jürgen", "j@example.com")]),
        ('"john smith"@example.com', [("", '"john smith"@example.com')]),
        ("<@hop.example:ann@example.com>", [("", "ann@example.com")]),
        ("Ann <>", [("Ann", "")]),
        ("Ann", [("", "")]),
        ("", []),
        (" , ,", []),
    ],
)  # fmt: skip
def test_mailboxes(value: str, expected: list[tuple[str, str]]) -> None:
    assert read(value) == expected


def test_what_an_encoded_word_hides_is_text() -> None:
    hidden = "=?utf-8?q?boss=40example=2Ecom=2C_=3Cboss=40example=2Ecom=3E?= <thief@evil.example>"
    assert read(hidden) == [("boss@example.com, <boss@example.com>", "thief@evil.example")]


def test_what_is_no_address_is_falsy_and_keeps_its_name() -> None:
    (box,) = mailboxes(b"The Boss <not an address>")
    assert not box
    assert (box.phrase, box.domain) == ("The Boss", "")


@given(st.binary(max_size=200))
def test_nothing_is_too_strange(value: bytes) -> None:
    for box in mailboxes(value):
        assert "\n" not in box.phrase


@given(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text("abc ,.<>@()\\\"'é", max_size=20))
def test_what_the_library_writes_is_read_back(user: str, name: str) -> None:
    name = " ".join(name.split())
    written = email.utils.formataddr((name, f"{user}@example.com"))
    assert read(written) == [(name, f"{user}@example.com")]


@pytest.mark.parametrize("piece", [b"(", b'"', b"<", b"a,", b"\\(", b"a b ", b"()"], ids=str)
def test_a_long_field_costs_no_more_than_its_length(piece: bytes) -> None:
    def seconds(count: int) -> float:
        value = piece * count
        began = process_time()
        list(mailboxes(value))
        return process_time() - began

    short = min(seconds(10_000) for _ in range(3))
    assert seconds(200_000) < 100 * short + 0.2
