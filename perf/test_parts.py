"""What it costs to look into a message: the first list of attachments, and a walk through a large one. Run by `make perf`."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.facts.mail import Mail
from smtpproxy.message.body import BodyWriter, StoredBody
from smtpproxy.message.edits import Ledger
from smtpproxy.message.header import HeaderBlock, end_of_header
from smtpproxy.wire.address import parse_address

Benchmark = Callable[..., Any]


def message(attachment: int) -> bytes:
    content = base64.encodebytes(bytes(range(256)) * (attachment * 3 // 4 // 256)).replace(b"\n", b"\r\n")
    return (
        b"Subject: files\r\nFrom: joe@example.org\r\nContent-Type: multipart/mixed; boundary=\"==outer==\"\r\n\r\n"
        b"--==outer==\r\nContent-Type: multipart/alternative; boundary=\"==inner==\"\r\n\r\n"
        b"--==inner==\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello\r\n"
        b"--==inner==\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Hello</p>\r\n--==inner==--\r\n"
        b"--==outer==\r\nContent-Type: application/pdf; name=\"a.pdf\"\r\n"
        b"Content-Disposition: attachment; filename=\"a.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + content + b"--==outer==--\r\n"
    )  # fmt: skip


SMALL, LARGE = message(4 << 10), message(1 << 20)
CLIENT = Client("S1", "192.0.2.1", 4321, ListenerFacts("mx"))


def stored(raw: bytes, memory: int = 1 << 30) -> StoredBody:
    writer = BodyWriter(memory)
    writer.write(raw)
    return writer.finish(False)


def mail_of(raw: bytes, body: StoredBody) -> Mail:
    mail = Mail("M1", CLIENT, parse_address("joe@example.org"))
    mail.arrived(Ledger(body, HeaderBlock.parse(raw[: end_of_header(raw)])), complete=True)
    return mail


def test_first_list_of_attachments_of_5_kilobytes(benchmark: Benchmark) -> None:
    body = stored(SMALL)
    assert [part.filename for part in benchmark(lambda: mail_of(SMALL, body).attachments)] == ["a.pdf"]


def test_attachments_when_nobody_asks(benchmark: Benchmark) -> None:
    body = stored(SMALL)
    assert benchmark(lambda: mail_of(SMALL, body)).id == "M1"


@pytest.mark.parametrize("memory", [1 << 30, 1 << 10], ids=["memory", "file"])
def test_walk_through_1_megabyte(benchmark: Benchmark, memory: int) -> None:
    body = stored(LARGE, memory)
    assert len(benchmark(lambda: mail_of(LARGE, body).attachments)) == 1


def test_read_an_attachment_of_1_megabyte(benchmark: Benchmark) -> None:
    (part,) = mail_of(LARGE, stored(LARGE)).attachments
    assert sum(map(len, benchmark(lambda: list(part.content())))) > 700_000


def test_append_to_text_and_html(benchmark: Benchmark) -> None:
    body = stored(SMALL)
    assert benchmark(lambda: mail_of(SMALL, body).append_text("-- \nfooter")) == 2
