"""Microbenchmarks of the pure wire: what a session does for each line. Run by `make perf`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from smtpproxy.wire.address import parse_path
from smtpproxy.wire.command import looks_like_http, parse, parse_mail, parse_rcpt
from smtpproxy.wire.extensions import Extensions, intersect
from smtpproxy.wire.lines import LineBuffer
from smtpproxy.wire.order import State, refuse
from smtpproxy.wire.reply import Reply, ReplyParser
from smtpproxy.wire.xclient import Identity, parse_xclient, xclient_commands

Benchmark = Callable[..., Any]

BATCH = b"".join(b"RCPT TO:<user%03d@example.com>\r\n" % i for i in range(1000))
POSTFIX = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT REVERSE_NAME"
EHLO = [
    "PIPELINING", "SIZE 10240000", "VRFY", "ETRN", "STARTTLS", "AUTH PLAIN LOGIN", "ENHANCEDSTATUSCODES", "8BITMIME",
    "DSN", "SMTPUTF8",
    "CHUNKING",
]  # fmt: skip
CLIENT = Identity("192.0.2.1", 4321, "spike.example.com", "spike.example.com")


def test_1000_lines_of_a_pipelined_batch(benchmark: Benchmark) -> None:
    def drain() -> int:
        buffer = LineBuffer()
        buffer.feed(BATCH)
        count = 0
        following = buffer.next
        while following() is not None:
            count += 1
        return count

    assert benchmark(drain) == 1000


def test_one_line_fed_and_read(benchmark: Benchmark) -> None:
    buffer = LineBuffer()

    def turn() -> bytes | None:
        buffer.feed(b"RCPT TO:<user@example.com>\r\n")
        return buffer.next()

    assert benchmark(turn) == b"RCPT TO:<user@example.com>"


def test_command(benchmark: Benchmark) -> None:
    assert benchmark(parse, b"MAIL FROM:<user@example.com> SIZE=1000").verb == "MAIL"


def test_order(benchmark: Benchmark) -> None:
    assert benchmark(refuse, "MAIL", State.GREETED) is None


def test_mail_with_parameters(benchmark: Benchmark) -> None:
    envelope = benchmark(parse_mail, b"FROM:<user@example.com> SIZE=1000 BODY=8BITMIME", False)
    assert envelope.params == {"SIZE": "1000", "BODY": "8BITMIME"}


def test_rcpt(benchmark: Benchmark) -> None:
    assert benchmark(parse_rcpt, b"TO:<first.last@mail.example.com>", False).address.domain == "mail.example.com"


def test_common_path(benchmark: Benchmark) -> None:
    assert benchmark(parse_path, b"<first.last@mail.example.com>").local_part == "first.last"


def test_quoted_path(benchmark: Benchmark) -> None:
    assert benchmark(parse_path, b'<"first last"@[IPv6:2001:db8::1]>').local_part == "first last"


def test_http_check(benchmark: Benchmark) -> None:
    assert not benchmark(looks_like_http, b"EHLO mail.example.com")


def test_reply_made_and_rendered(benchmark: Benchmark) -> None:
    assert benchmark(lambda: bytes(Reply(250, "2.0.0", "Ok: queued as 4ABC123"))).endswith(b"\r\n")


def test_reply_rendered_before(benchmark: Benchmark) -> None:
    reply = Reply(250, "2.1.5", "Ok")
    assert benchmark(lambda: bytes(reply)) == b"250 2.1.5 Ok\r\n"


def test_reply_parsed(benchmark: Benchmark) -> None:
    assert benchmark(ReplyParser().feed, b"250 2.1.5 Ok").enhanced == "2.1.5"


def test_extensions_parsed(benchmark: Benchmark) -> None:
    assert len(benchmark(Extensions.parse, EHLO)) == 11


def test_extensions_intersected_and_offered(benchmark: Benchmark) -> None:
    ours = Extensions.parse(EHLO)
    assert benchmark(lambda: bytes(intersect(ours, ours).reply("mx.example.com"))).startswith(b"250-mx")


def test_xclient_parsed(benchmark: Benchmark) -> None:
    attributes = benchmark(
        parse_xclient, "ADDR=192.0.2.1 PORT=4321 NAME=spike.example.com PROTO=ESMTP HELO=spike.example.com"
    )
    assert attributes["ADDR"] == "192.0.2.1"


def test_xclient_written(benchmark: Benchmark) -> None:
    assert benchmark(xclient_commands, CLIENT, POSTFIX)[0].startswith(b"XCLIENT ADDR=192.0.2.1")
