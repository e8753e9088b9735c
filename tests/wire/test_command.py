"""Command lines: verb, argument, envelope, parameters; each wrong form with its exact code."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpproxy.wire.command import (
    Command,
    check_parameters,
    looks_like_http,
    looks_like_tls,
    parse,
    parse_bdat,
    parse_mail,
    parse_rcpt,
)
from smtpproxy.wire.extensions import MAIL_PARAMETERS, RCPT_PARAMETERS, parameters
from smtpproxy.wire.reply import Refusal


def codes(refusal: pytest.ExceptionInfo[Refusal]) -> str:
    return f"{refusal.value.reply.code} {refusal.value.reply.enhanced}"


@pytest.mark.parametrize(
    ("line", "verb", "argument"),
    [
        (b"QUIT", "QUIT", ""),
        (b"quit", "QUIT", ""),
        (b"QUIT   ", "QUIT", ""),
        (b"QUIT \t ", "QUIT", ""),
        (b"EHLO mx.example.com", "EHLO", "mx.example.com"),
        (b"eHlO   mx.example.com  ", "EHLO", "mx.example.com"),
        (b"MAIL FROM:<a@b> SIZE=1", "MAIL", "FROM:<a@b> SIZE=1"),
        (b"X-FOO bar", "X-FOO", "bar"),
        (b"NOOP \xc3\xa9", "NOOP", "é"),
        (b"NOOP \xff", "NOOP", "\udcff"),
        (b"BDAT 6\tLAST", "BDAT", " 6\tLAST"),
        (b" bdat\0 6", "BDAT", "\0 6"),
    ],
)
def test_commands(line: bytes, verb: str, argument: str) -> None:
    command = parse(line)
    assert (command.verb, command.argument, command.raw) == (verb, argument, line)
    assert command.octets == argument.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    "line",
    [
        b"", b" ", b"\t", b" QUIT", b"\0", b"QU\0IT", b"QUIT\0", b"NOOP a\0b", b"NOOP a\tb", b"NOOP\tb", b"NOOP \x7f",
        b"NOOP \x1b[2J",
        b"NOOP a\rQUIT", b"QUIT\r", b"\xc3\xa9HLO x", b"MAIL:FROM", b"<html>", b"Host: x", b"1QUIT", b"-",
        b"\x16\x03\x01\x02",
    ],
)  # fmt: skip
def test_unreadable_lines(line: bytes) -> None:
    with pytest.raises(Refusal) as refusal:
        parse(line)
    assert codes(refusal) == "500 5.5.2"


@pytest.mark.parametrize(
    ("argument", "path", "params"),
    [
        (b"FROM:<>", "", {}),
        (b"FROM:<a@b>", "a@b", {}),
        (b"from:<a@b>", "a@b", {}),
        (b"From: <a@b>", "a@b", {}),
        (b"FROM:   <a@b>", "a@b", {}),
        (b"FROM:<a@b> SIZE=1", "a@b", {"SIZE": "1"}),
        (b"FROM:<a@b>   size=1   body=8bitMIME", "a@b", {"SIZE": "1", "BODY": "8bitMIME"}),
        (b"FROM:<a@b> SMTPUTF8", "a@b", {"SMTPUTF8": None}),
        (b"FROM:<a@b> AUTH=<> RET=HDRS ENVID=QQ+3D1", "a@b", {"AUTH": "<>", "RET": "HDRS", "ENVID": "QQ+3D1"}),
        (b"FROM:<@r.example:a@b>", "a@b", {}),
        (b'FROM:<"a> SIZE=9 <"@b> SIZE=1', '"a> SIZE=9 <"@b', {"SIZE": "1"}),
        (b"FROM:<a@[IPv6:::1]> X=1", "a@[IPv6:::1]", {"X": "1"}),
        (b"FROM:<a@[t:x>y]> X=1", "a@[t:x>y]", {"X": "1"}),
    ],
)
def test_mail(argument: bytes, path: str, params: dict[str, str | None]) -> None:
    envelope = parse_mail(argument, False)
    assert (envelope.address.path, envelope.params) == (path, params)


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        (b"", "501 5.5.4"),
        (b"FROM", "501 5.5.4"),
        (b"FROM <a@b>", "501 5.5.4"),
        (b"FROM :<a@b>", "501 5.5.4"),
        (b"TO:<a@b>", "501 5.5.4"),
        (b"<a@b>", "501 5.5.4"),
        (b"FROM:", "501 5.1.7"),
        (b"FROM:a@b", "501 5.1.7"),
        (b"FROM:a@b SIZE=1", "501 5.1.7"),
        (b'FROM:"Joe" <a@b>', "501 5.1.7"),
        (b"FROM:<a@b", "501 5.1.7"),
        (b"FROM:<a>", "501 5.1.7"),
        (b"FROM:<a@b@c>", "501 5.1.7"),
        (b"FROM:<postmaster>", "501 5.1.7"),
        (b"FROM:< >", "501 5.1.7"),
        (b"FROM:<<a@b>>", "501 5.1.7"),
        (b"FROM:<a@[1.2.3.4>", "501 5.1.7"),
        (b"FROM:<" + b"l" * 65 + b"@b>", "501 5.1.7"),
        (b"FROM:<a@b>SIZE=1", "501 5.5.4"),
        (b"FROM:<a@b>>", "501 5.5.4"),
        (b"FROM:<a@b> SIZE=", "501 5.5.4"),
        (b"FROM:<a@b> =1", "501 5.5.4"),
        (b"FROM:<a@b> -X=1", "501 5.5.4"),
        (b"FROM:<a@b> X_Y=1", "501 5.5.4"),
        (b"FROM:<a@b> X=a=b", "501 5.5.4"),
        (b"FROM:<a@b> X=a\x01", "501 5.5.4"),
        (b"FROM:<a@b> X=\xff", "501 5.5.4"),
        (b"FROM:<a@b> SIZE=1 size=2", "501 5.5.4"),
        (b"FROM:<a@b> <c@d>", "501 5.5.4"),
        ("FROM:<é@b>".encode(), "553 5.6.7"),
        ("FROM:<a@é> SIZE=1".encode(), "553 5.6.7"),
    ],
)
def test_refused_mail(argument: bytes, code: str) -> None:
    for utf8 in (False, True):
        with pytest.raises(Refusal) as refusal:
            parse_mail(argument, utf8)
        assert codes(refusal) == code


def test_international_sender_needs_offer_and_parameter() -> None:
    argument = "FROM:<é@b> SMTPUTF8".encode()
    assert parse_mail(argument, True).address.local_part == "é"
    with pytest.raises(Refusal) as refusal:
        parse_mail(argument, False)
    assert codes(refusal) == "553 5.6.7"
    with pytest.raises(Refusal) as refusal:
        parse_mail(b"FROM:<\xc0\x80@b> SMTPUTF8", True)
    assert codes(refusal) == "501 5.1.7"


@pytest.mark.parametrize(
    ("argument", "text", "params"),
    [
        (b"TO:<a@b>", "a@b", {}),
        (b"to: <a@B> notify=NEVER", "a@b", {"NOTIFY": "NEVER"}),
        (b"TO:<Postmaster>", "postmaster", {}),
        (b"TO:<@x,@y:a@b>", "a@b", {}),
    ],
)
def test_rcpt(argument: bytes, text: str, params: dict[str, str | None]) -> None:
    envelope = parse_rcpt(argument, False)
    assert (str(envelope.address), envelope.params) == (text, params)


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        (b"", "501 5.5.4"),
        (b"FROM:<a@b>", "501 5.5.4"),
        (b"TO:<>", "501 5.1.3"),
        (b"TO:a@b", "501 5.1.3"),
        (b"TO:<a>", "501 5.1.3"),
        (b"TO:<a@b>x", "501 5.5.4"),
        (b"TO:<a@b> A A", "501 5.5.4"),
        ("TO:<é@b>".encode(), "553 5.6.7"),
    ],
)
def test_refused_rcpt(argument: bytes, code: str) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_rcpt(argument, False)
    assert codes(refusal) == code


def test_international_recipient() -> None:
    assert parse_rcpt("TO:<a@é.example>".encode(), True).address.domain == "é.example"
    with pytest.raises(Refusal) as refusal:
        parse_rcpt(b"TO:<\xff@b>", True)
    assert codes(refusal) == "501 5.1.3"


MAIL_KNOWN = parameters(MAIL_PARAMETERS, MAIL_PARAMETERS)
RCPT_KNOWN = parameters(RCPT_PARAMETERS, RCPT_PARAMETERS)


def read_as(word: str) -> dict[str, str | None]:
    keyword, equals, value = word.partition("=")
    return {keyword: value if equals else None}


@pytest.mark.parametrize(
    "word",
    [
        "SIZE=0", "SIZE=" + "9" * 20, "BODY=7bit", "BODY=8BITMIME", "BODY=BINARYMIME", "SMTPUTF8", "AUTH=<>",
        "AUTH=e+3Dmc2@example.com",
        "RET=FULL", "RET=hdrs", "ENVID=QQ314159", "REQUIRETLS", "MT-PRIORITY=-9", "MT-PRIORITY=3", "HOLDFOR=86400",
        "HOLDUNTIL=2030-01-01T00:00:00Z", "HOLDUNTIL=2030-01-01T00:00:00+01:00", "BY=120;R", "BY=-5;NT",
    ],
)  # fmt: skip
def test_good_mail_parameters(word: str) -> None:
    params = parse_mail(f"FROM:<a@b> {word}".encode(), False).params
    check_parameters(params, MAIL_KNOWN)
    assert params == read_as(word)


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("SIZE", "501 5.5.4"), ("SIZE=x", "501 5.5.4"), ("SIZE=-1", "501 5.5.4"), ("SIZE=" + "9" * 21, "501 5.5.4"),
        ("SIZE=\u0661", "501 5.5.4"), ("BODY", "501 5.5.4"), ("BODY=9BIT", "555 5.5.4"), ("SMTPUTF8=1", "501 5.5.4"),
        ("RET=BODY", "501 5.5.4"), ("ENVID=a+zz", "501 5.5.4"), ("ENVID=" + "x" * 101, "501 5.5.4"), ("AUTH=a+2",
        "501 5.5.4"),
        ("MT-PRIORITY=10", "501 5.5.4"), ("BY=5;X", "501 5.5.4"), ("HOLDFOR=0", "501 5.5.4"),
        ("X-NO", "555 5.5.4"), ("NOTIFY=NEVER", "555 5.5.4"), ("XVERP", "555 5.5.4"),
    ],
)  # fmt: skip
def test_refused_mail_parameters(word: str, code: str) -> None:
    with pytest.raises(Refusal) as refusal:
        check_parameters(parse_mail(f"FROM:<a@b> {word}".encode(), False).params, MAIL_KNOWN)
    assert codes(refusal) == code


@pytest.mark.parametrize("word", ["NOTIFY=NEVER", "NOTIFY=success,DELAY", "ORCPT=rfc822;a+3Db@c", "ORCPT=utf-8;a@b"])
def test_good_rcpt_parameters(word: str) -> None:
    params = parse_rcpt(f"TO:<a@b> {word}".encode(), False).params
    check_parameters(params, RCPT_KNOWN)
    assert params == read_as(word)


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("NOTIFY=NEVER,DELAY", "501 5.5.4"),
        ("NOTIFY", "501 5.5.4"),
        ("ORCPT=a@b", "501 5.5.4"),
        ("SIZE=1", "555 5.5.4"),
    ],
)
def test_refused_rcpt_parameters(word: str, code: str) -> None:
    with pytest.raises(Refusal) as refusal:
        check_parameters(parse_rcpt(f"TO:<a@b> {word}".encode(), False).params, RCPT_KNOWN)
    assert codes(refusal) == code


def test_a_parameter_of_an_extension_not_offered_is_unknown() -> None:
    known = parameters(["SIZE", "PIPELINING"], MAIL_PARAMETERS)
    assert set(known) == {"SIZE"}
    with pytest.raises(Refusal) as refusal:
        check_parameters({"SMTPUTF8": None}, known)
    assert codes(refusal) == "555 5.5.4"
    assert known["SIZE"] == re.compile(r"[0-9]{1,20}")


@pytest.mark.parametrize(
    ("line", "http"),
    [
        (b"GET / HTTP/1.1", True), (b"POST /a HTTP/1.0", True), (b"CONNECT mx:25 HTTP/1.1", True),
        (b"HEAD / HTTP/1.1", True),
        (b"PUT /x HTTP/1.1", True), (b"OPTIONS * HTTP/1.1", True), (b"DELETE /x HTTP/1.1", True), (b"PRI * HTTP/2.0",
        True),
        (b"GET /", True), (b"GET", True), (b"BREW /pot HTTP/1.1", True), (b"EHLO GET", False), (b"GETX", False),
        (b"EHLO mx.example.com", False), (b"HELO x", False), (b"", False), (b"MAIL FROM:<a@b>", False),
    ],
)  # fmt: skip
def test_http_is_recognised(line: bytes, http: bool) -> None:
    assert looks_like_http(line) is http


def test_a_tls_hello_is_recognised() -> None:
    assert looks_like_tls(bytes.fromhex("1603010200010001fc0303"))
    assert not looks_like_tls(b"EHLO x")
    assert not looks_like_tls(b"\x16")


@given(st.binary(max_size=80))
def test_any_line_is_parsed_or_refused(line: bytes) -> None:
    try:
        command = parse(line)
    except Refusal as refusal:
        assert str(refusal.reply).startswith("500 5.5.2")
        return
    assert isinstance(command, Command)
    assert command.verb.isascii() and command.verb.isupper() and not set(command.octets) & {*range(32), 127}


@given(st.text('<>@.:,;="\\[] abSIZE1-+\xe9', max_size=40), st.booleans())
def test_any_argument_is_parsed_or_refused_with_an_enhanced_code(argument: str, utf8: bool) -> None:
    for reader, lead in ((parse_mail, "FROM:<"), (parse_rcpt, "TO:<")):
        try:
            envelope = reader((lead + argument).encode(), utf8)
        except Refusal as refusal:
            assert refusal.reply.code in (501, 553)
            assert refusal.reply.enhanced in ("5.5.4", "5.1.7", "5.1.3", "5.6.7")
        else:
            assert all(name == name.upper() for name in envelope.params)


@pytest.mark.parametrize(
    ("argument", "chunk"),
    [
        (b"0", (0, False)),
        (b"86", (86, False)),
        (b"0 LAST", (0, True)),
        (b"007   last", (7, True)),
        (b"9" * 18, (10**18 - 1, False)),
    ],
)
def test_what_bdat_announces(argument: bytes, chunk: tuple[int, bool]) -> None:
    assert parse_bdat(argument) == chunk


@pytest.mark.parametrize(
    "argument",
    [
        b"", b"LAST", b"-1", b"+1", b"1.0", b"0x10", b"1 FIRST", b"1LAST", b"1 LAST 2", b"1 2", b"1\tLAST", b"9" * 19,
        "\u0661".encode(),
    ],
)
def test_what_bdat_cannot_announce(argument: bytes) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_bdat(argument)
    assert codes(refusal) == "501 5.5.4"
