"""Time: every phase of a session ends, however a client drips; the session's line in the log says how."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import gevent
import pytest

from smtpproxy.config.limits import Limits, LimitTimeouts
from smtpproxy.config.values import Duration, Size
from smtpproxy.testing.client import FakeClient, Reply
from smtpproxy.testing.front import ENVELOPE, Front
from smtpproxy.testing.handoffs import FakeOutlet
from smtpproxy.testing.waiting import until

SHORT = Duration(0.3)
STEP = 0.02

Begin = Callable[..., Front]


@pytest.fixture
def front(front: Begin) -> Begin:
    def make(rule: str = "", data_rate: int = 1024, **timeouts: float) -> Front:
        limits = Limits(
            data_rate=Size(data_rate), junk_commands=0, errors=0,
            timeouts=LimitTimeouts(**{name: Duration(seconds) for name, seconds in timeouts.items()}),
        )  # fmt: skip
        return front(rule, limits=limits)

    return make


def drip(client: FakeClient, piece: bytes, every: float = STEP) -> Reply:
    """Send a piece at a time until the server has had enough; its last words."""

    def send() -> None:
        with suppress(OSError):
            while True:
                client.raw(piece)
                gevent.sleep(every)

    dripping = gevent.spawn(send)
    try:
        reply = client.reply()
        while reply.code < 400:
            reply = client.reply()
        return reply
    finally:
        dripping.kill()


def paced(count: int, every: float) -> Iterator[int]:
    """So many turns, one each so many seconds: what a client of this pace does."""
    for turn in range(count):
        gevent.sleep(every)
        yield turn


def ended(front: Front) -> dict[str, object]:
    """The session's line."""
    assert until(lambda: front.logged("session"))
    return front.logged("session")[-1]


def test_a_command_must_be_whole_in_time(front: Begin) -> None:
    it = front(command=SHORT)
    client = it.client()
    assert str(drip(client, b"x")).startswith("421 4.4.2 Timeout")
    assert client.closed()
    assert str(ended(it)["end"]).startswith("421 4.4.2 Timeout")


@pytest.mark.parametrize("commands", [(), ENVELOPE[:1], ENVELOPE], ids=["before MAIL", "behind MAIL", "behind RCPT"])
def test_each_phase_ends_however_many_commands_it_is_filled_with(front: Begin, commands: tuple[str, ...]) -> None:
    it = front(transaction=SHORT) if commands else front(greeting=SHORT)
    client = it.begun(commands)
    assert str(drip(client, b"NOOP\r\n")).startswith("421 4.4.2 You have taken too long")
    assert client.closed()
    assert len(it.logged("refused")) == bool(commands)  # a mail is lost by it, or none


def test_a_session_ends_though_it_sends_mail(front: Begin) -> None:
    it = front(session=SHORT)
    client = it.client()
    reply = drip(client, b"MAIL FROM:<a@client.example>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n\r\n.\r\n")
    assert str(reply).startswith("421 4.4.2 You have taken too long")
    assert ended(it)["mails"]


def test_each_mail_has_the_whole_time_again(front: Begin) -> None:
    it = front(greeting=4 * SHORT, transaction=4 * SHORT)
    client = it.client()
    for turn in paced(12, SHORT / 2):
        assert client.send(ENVELOPE[turn % 2]).code == 250
        assert turn % 2 == 0 or client.message(b"\r\n").code == 250
    client.send("QUIT")
    assert (ended(it)["end"], ended(it)["mails"]) == ("quit", 6)


def test_a_message_that_drips_is_ended(front: Begin, out: FakeOutlet) -> None:
    it = front(data_grace=SHORT, data_rate=1000)
    client = it.begun()
    client.send("DATA")
    assert str(drip(client, b"x\r\n")).startswith("421 4.4.2 The message comes too slowly")
    assert client.closed()
    refused = it.logged("refused")[-1]
    assert (refused["id"], refused["from"]) == ("1.1", "a@client.example")
    assert "octets in" in refused["by"]
    assert not out.delivered


def test_a_slow_message_that_keeps_the_rate_is_taken(front: Begin, out: FakeOutlet) -> None:
    client = front(data_grace=SHORT, data_rate=200, data=1).begun()
    client.send("DATA")
    for _ in paced(50, STEP):  # a second: three times the grace, at about 2000 octets a second
        client.raw(b"x" * 38 + b"\r\n")
    client.raw(b".\r\n")
    assert client.reply().code == 250
    assert out.delivered[-1].content.endswith(b"x\r\n")


def test_time_that_others_take_is_not_the_clients(front: Begin, out: FakeOutlet) -> None:
    rule = "from smtpproxy.script import sleep\ndef on_header(mail): sleep(0.5)\n"
    it = front(rule, data_grace=0.2, data_rate=10_000_000)
    client = it.begun()
    client.send("DATA")
    client.raw(b"Subject: x\r\n\r\nsome ")
    for _ in paced(1, 0.4):  # longer than the grace, while the rule takes its time
        client.raw(b"text\r\n.\r\n")
    assert client.reply().code == 250
    assert out.delivered


def test_a_handshake_ends_however_it_drips(tmp_path: Path, out: FakeOutlet) -> None:
    limits = Limits(timeouts=LimitTimeouts(tls=SHORT))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with Front(out, folder=tmp_path, limits=limits, tls=context, tls_implicit=True) as it, FakeClient(it.port) as client:
        client.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # a ClientHello of 512 octets begins
        with suppress(OSError):
            for _ in paced(200, STEP):
                client.raw(b"x")
        assert ended(it)["end"] == "tls"
        assert it.logged("tls_failed")


def test_a_message_that_stops_is_ended_by_its_own_time(front: Begin) -> None:
    it = front(data=SHORT)
    client = it.begun()
    client.send("DATA")
    client.raw(b"Subject: half\r\n")
    assert str(client.reply()).startswith("421 4.4.2 Timeout")
    assert it.logged("refused")


def test_the_line_of_a_session(front: Begin) -> None:
    it = front()
    client = it.begun()
    client.message(b"Subject: x\r\n\r\ntext\r\n")
    client.send("BOGUS")
    client.send("QUIT")
    line = ended(it)
    assert list(line) == [
        "id", "client", "listener", "helo", "commands", "mails", "refused", "octets_in", "octets_out", "ms", "end",
    ]  # fmt: skip
    said = "EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
    said += "Subject: x\r\n\r\ntext\r\n.\r\nBOGUS\r\nQUIT\r\n"
    assert line["octets_in"] == len(said)
    assert (line["commands"], line["mails"], line["refused"], line["end"]) == (6, 1, 1, "quit")
    assert (line["id"], line["client"], line["listener"], line["helo"]) == ("1", "127.0.0.1", "mx", "client.example")


def test_how_sessions_end(front: Begin) -> None:
    it = front("from smtpproxy.script import close\ndef on_mail(mail, sender): return close('Go away', code='554 5.7.1')\n")
    it.client().close()
    assert ended(it)["end"] == "lost"
    it.client().send("MAIL FROM:<a@client.example>")
    assert until(lambda: len(it.logged("session")) == 2)
    assert ended(it)["end"] == "554 5.7.1 Go away"
