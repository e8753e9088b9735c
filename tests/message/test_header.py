"""The header is split without losing an octet; fields are written as RFC 5322 wants them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smtpproxy.message.header import Field, HeaderBlock, end_of_header, format_field, verbatim_field

HOSTILE = st.lists(
    st.sampled_from([b"A: b", b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"From ", b"x", b".", b"\0", b"\xff", b"\r\n\r\n"]),
    max_size=40,
).map(b"".join)


@given(HOSTILE)
@example(b"\r\n")
@example(b"")
@example(b" continued\r\nA: b")
def test_no_octet_is_lost(raw: bytes) -> None:
    block = HeaderBlock.parse(raw)
    assert b"".join(field.raw for field in block.fields) + block.separator == raw
    for field in block.fields:
        assert not set(field.value) & set("\r\n\0")


def test_fields_are_split_with_their_folds() -> None:
    block = HeaderBlock.parse(b"A: 1\r\n folded\r\nB : 2\r\n\t\r\nC:\r\n\r\n")
    assert [(field.name, field.value) for field in block.fields] == [("A", "1 folded"), ("B", "2"), ("C", "")]
    assert block.separator == b"\r\n"


def test_a_line_that_is_no_field_is_kept_without_a_name() -> None:
    block = HeaderBlock.parse(b"From a@example.com Thu Jan 1\r\nA: 1\r\nno colon here\r\n\r\n")
    assert [field.name for field in block.fields] == ["", "A", ""]


def test_two_fields_are_equal_only_when_they_are_one() -> None:
    first, second = HeaderBlock.parse(b"A: 1\r\nA: 1\r\n\r\n").fields
    assert first == first
    assert first != second


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"A: 1\r\n\r\nbody", 8),
        (b"A: 1\r\n\r\n", 8),
        (b"A: 1\r\n\r", -1),
        (b"A: 1\r\n", -1),
        (b"", -1),
        (b"\r\nbody", 2),
        (b"A: 1\n\nbody", -1),
        (b"A: 1\n\r\nbody", -1),
        (b"A: 1\n\n\r\n\r\n", 10),
    ],
)
def test_the_empty_line_ends_the_header(data: bytes, end: int) -> None:
    assert end_of_header(data) == end


@given(HOSTILE, st.integers(0, 200))
def test_the_end_is_found_when_the_search_goes_on(data: bytes, cut: int) -> None:
    whole = end_of_header(data)
    first = end_of_header(data[:cut])
    assert first in (-1, whole)
    if first < 0:
        assert end_of_header(data, max(0, min(cut, len(data)) - 3)) == whole


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"S: plain\r\n", "plain"),
        (b"S:  spaced \t\r\n", "spaced"),
        (b"S: one\r\n two\r\n\tthree\r\n", "one two\tthree"),
        (b"S: =?utf-8?q?J=C3=B6rg?=\r\n", "Jörg"),
        (b"S: =?UTF-8?B?SsO2cmc=?=\r\n", "Jörg"),
        (b"S: =?iso-8859-1?q?J=F6rg_X?= <a@b>\r\n", "Jörg X <a@b>"),
        (b"S: =?utf-8?q?a?= =?utf-8?q?b?=\r\n", "ab"),
        (b"S: =?utf-8?q?a?=\r\n =?iso-8859-1?q?b?= c\r\n", "ab c"),
        (b"S: =?utf-8?b?ww==?= =?utf-8?b?tg==?=\r\n", "ö"),
        (b"S: =?utf-8?b?SsO2cmc?=\r\n", "Jörg"),
        (b"S: =?utf-8?q?=C3?= =?utf-8?q?=B6?=\r\n", "ö"),
        (b"S: =?utf-8*de?q?J=C3=B6rg?=\r\n", "Jörg"),
        (b"S: =?utf-8?q?with space?=\r\n", "with space"),
        (b"S: =?x-unknown?q?a=41?= =?utf-8?q?b?=\r\n", "=?x-unknown?q?a=41?= b"),
        (b"S: =?idna?q?xn--a?=\r\n", "=?idna?q?xn--a?="),
        (b"S: =?utf-8?b?A?=\r\n", "=?utf-8?b?A?="),
        (b"S: =?iso-2022-jp?b?GyRCGyRC/w==?=\r\n", "=?iso-2022-jp?b?GyRCGyRC/w==?="),
        (b"S: =?iso-8859-1?q?=E9?= =?utf-8?q?caf=E9?= x\r\n", "é =?utf-8?q?caf=E9?= x"),
        (b"S: =?utf-8?q?a=0D=0ABcc:_x=00?=\r\n", "a\ufffd\ufffdBcc: x\ufffd"),
        (b"S: a =?utf-8?q?unfinished\r\n", "a =?utf-8?q?unfinished"),
        (b"S: raw \xff\r\n", "raw \udcff"),
        ("S: Jörg\r\n".encode(), "Jörg"),
        (b"S: a\0b\rc\r\n", "a\ufffdb\ufffdc"),
        (b"S: bare\n", "bare"),
    ],
)
def test_a_value_is_unfolded_and_decoded(raw: bytes, value: str) -> None:
    assert Field(raw).value == value


WORDS = st.lists(
    st.one_of(
        st.text('abcXYZ0123456789.,;:-_=?<>"()@', min_size=1, max_size=120),
        st.text(st.characters(exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"]), min_size=1, max_size=120),
    ),
    max_size=12,
)


@given(WORDS, st.sampled_from([" ", "  ", "\t"]))
def test_what_is_set_is_read_again(texts: list[str], space: str) -> None:
    value = space.join(texts)
    if "=?" in value:
        value = value.replace("=?", "=!")
    field = Field(format_field("Subject", value))
    assert field.value == value.strip(" \t")
    assert field.raw.endswith(b"\r\n")
    assert len(HeaderBlock.parse(field.raw).fields) == 1


@given(WORDS)
def test_a_field_is_ascii_and_its_encoded_lines_are_short(texts: list[str]) -> None:
    raw = format_field("Subject", " ".join(texts))
    assert raw.isascii()
    for line in raw.split(b"\r\n"):
        if line.count(b"=?utf-8?") == 1 and line.endswith(b"?="):
            assert max(map(len, line.split(b" "))) <= 75 or b"=?utf-8?" not in line.split(b" ")[-1]


def test_a_long_value_is_folded_where_its_spaces_are() -> None:
    raw = format_field("Subject", " ".join(["word"] * 60))
    lines = raw.removesuffix(b"\r\n").split(b"\r\n")
    assert len(lines) > 3
    assert all(len(line) <= 78 for line in lines)
    assert all(line.startswith(b" ") for line in lines[1:])
    assert lines[0].startswith(b"Subject: word")


def test_encoded_lines_hold_76_characters_at_most() -> None:
    raw = format_field("X-A-Rather-Long-Name", "größe " * 40)
    assert max(map(len, raw.split(b"\r\n"))) <= 76


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        ("Jörg <a@b>", b"From: =?utf-8?b?SsO2cmc=?= <a@b>\r\n"),
        ('"Jörg, X" <a@b>', b"From: =?utf-8?b?SsO2cmcsIFg=?= <a@b>\r\n"),
        ("Jörg<a@b>, c@d", b"From: =?utf-8?b?SsO2cmc=?= <a@b>, c@d\r\n"),
        ("Jörg, c@d", b"From: =?utf-8?b?SsO2cmc=?= , c@d\r\n"),
        ('"Plain, X" <a@b>', b'From: "Plain, X" <a@b>\r\n'),
        ("jörg@example.com", "From: jörg@example.com\r\n".encode()),
        ("X <jörg@example.com>", "From: X <jörg@example.com>\r\n".encode()),
    ],
)
def test_addresses_stay_addresses_beside_encoded_names(value: str, raw: bytes) -> None:
    assert format_field("From", value) == raw


def test_octets_that_came_raw_go_raw() -> None:
    raw = b"Subject: caf\xe9 today\r\n"
    assert format_field("Subject", Field(raw).value) == raw


@pytest.mark.parametrize("value", ["a\r\nBcc: x", "a\nb", "a\rb", "a\0b"])
def test_a_value_cannot_start_a_line(value: str) -> None:
    with pytest.raises(ValueError, match="must not hold"):
        format_field("Subject", value)


@pytest.mark.parametrize("name", ["", "A B", "A:", "A\r\nB", "Ä", "A\0"])
def test_a_name_is_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        format_field(name, "x")


def test_a_signature_keeps_its_own_folds() -> None:
    assert verbatim_field("DKIM-Signature", "a=1;\r\n\tb=2") == b"DKIM-Signature: a=1;\r\n\tb=2\r\n"


@pytest.mark.parametrize("value", ["a\r\nBcc: x", "a\nb", "a\rb", "a\r\n \r\n b", "a\r\n", "a\0"])
def test_a_signature_cannot_start_a_field(value: str) -> None:
    with pytest.raises(ValueError, match="must begin with white space"):
        verbatim_field("DKIM-Signature", value)
