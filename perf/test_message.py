"""What a message costs between the socket and the upstream: splitting, editing, rendering. Run by `make perf`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.recipient import Recipient, Sender
from smtpproxy.message.body import BodyWriter, StoredBody
from smtpproxy.message.edits import Ledger
from smtpproxy.message.header import HeaderBlock, end_of_header, format_field
from smtpproxy.message.trace import count_received, received_from, received_line
from smtpproxy.wire.address import parse_path

Benchmark = Callable[..., Any]

HEADER = (
    b"".join(
        b"Received: from relay%d.example (relay%d.example [192.0.2.%d])\r\n\tby mx.example.com with ESMTPS id 4XyZ%d\r\n"
        b"\tfor <user@example.com>; Thu, 21 Nov 2024 10:05:00 +0100\r\n" % (n, n, n, n)
        for n in range(3)
    )
    + b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=s1;\r\n h=from:to:subject;\r\n b="
    + b"A" * 70 + b"\r\n " + b"B" * 70 + b"\r\n"
    + b"".join(b"X-Header-%02d: some value that is neither long nor short\r\n" % n for n in range(12))
    + b"From: Joe <joe@example.org>\r\nTo: user@example.com\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?= and more\r\n"
    b"Date: Thu, 21 Nov 2024 10:05:00 +0100\r\nMessage-ID: <1@example.org>\r\n\r\n"
)  # fmt: skip
MESSAGE = HEADER + b"A line of text of the usual length, which has no dots at its start.\r\n" * 45
TOP = b"Received: from x (x [192.0.2.1])\r\n\tby y with ESMTP id z\r\n\tfor <a@b>; Thu, 21 Nov 2024 10:05:00 +0100\r\n"
CLIENT = Client("S1", "192.0.2.1", 4321, ListenerFacts("mx"))
SENDER = Sender(parse_path(b"<joe@example.org>"))


def stored() -> StoredBody:
    writer = BodyWriter()
    writer.write(MESSAGE)
    return writer.finish(False)


def ledger_of(body: StoredBody) -> Ledger:
    return Ledger(body, HeaderBlock.parse(MESSAGE[: end_of_header(MESSAGE)]))


def test_store_5_kilobytes(benchmark: Benchmark) -> None:
    assert benchmark(stored).size == len(MESSAGE)


def test_find_the_end_of_the_header(benchmark: Benchmark) -> None:
    assert benchmark(end_of_header, MESSAGE) == len(HEADER)


def test_split_the_header(benchmark: Benchmark) -> None:
    assert len(benchmark(lambda: HeaderBlock.parse(HEADER).fields)) == 21


def test_read_one_field(benchmark: Benchmark) -> None:
    mail = Mail("M1", CLIENT, SENDER)
    body = stored()

    def read() -> str | None:
        mail.arrived(ledger_of(body), complete=True)
        return mail.header["Subject"]

    assert benchmark(read) == "grüße and more"


def test_count_received(benchmark: Benchmark) -> None:
    assert benchmark(count_received, HEADER) == 3


def test_received_line(benchmark: Benchmark) -> None:
    origin = received_from(
        client_name="client.example",
        client_address="192.0.2.1",
        helo="helo.example",
        hostname="mx.example.com",
        protocol="ESMTP",
    )
    date = "Thu, 21 Nov 2024 10:05:00 +0100"
    line = benchmark(lambda: received_line(origin, id="4XyZabc", recipient="a@example.com", date=date))
    assert line.startswith(b"Received: from helo.example")


def test_format_a_field(benchmark: Benchmark) -> None:
    assert benchmark(format_field, "X-Checked-By", "mx.example.com").endswith(b"\r\n")


def test_render_untouched(benchmark: Benchmark) -> None:
    body = stored()
    assert sum(map(len, benchmark(lambda: list(ledger_of(body).render(TOP).wire())))) == len(TOP) + len(MESSAGE)


def test_render_with_one_field_added(benchmark: Benchmark) -> None:
    body = stored()

    def render() -> int:
        ledger = ledger_of(body)
        ledger.add_field("X-Checked-By", "mx.example.com")
        return sum(map(len, ledger.render(TOP).wire()))

    assert benchmark(render) > len(MESSAGE)


def test_render_5_megabytes_with_one_field_added(benchmark: Benchmark) -> None:
    writer = BodyWriter(memory=0)
    writer.write(HEADER)
    block = MESSAGE[len(HEADER) :] * 20
    for _ in range(5_000_000 // len(block)):
        writer.write(block)
    body = writer.finish(False)

    def render() -> int:
        ledger = ledger_of(body)
        ledger.add_field("X-Checked-By", "mx.example.com")
        return sum(map(len, ledger.render(TOP).wire()))

    assert benchmark(render) > 4_900_000


def test_make_a_mail(benchmark: Benchmark) -> None:
    assert benchmark(Mail, "M1", CLIENT, SENDER).id == "M1"


def test_make_a_recipient(benchmark: Benchmark) -> None:
    assert benchmark(Recipient, SENDER).via is None


def test_make_a_client(benchmark: Benchmark) -> None:
    assert benchmark(Client, "S1", "192.0.2.1", 4321, CLIENT.listener).helo == ""
