"""The client's side of SMTP: what a server says is a value; a server that is lost, silent or talks nonsense is not."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import closing

import gevent
import pytest
from gevent import socket

from smtpproxy.delivery.smtp import SmtpClient, Timeouts, UpstreamLost
from smtpproxy.net.connection import connect
from smtpproxy.testing.acts import DROP, HANG
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.wire.reply import Reply

Dial = Callable[[FakeUpstream], SmtpClient]
SHORT = Timeouts(connect=0.2, greeting=0.2, mail=0.2, data=0.2, block=0.2, final=0.2)


def envelope(smtp: SmtpClient) -> None:
    assert smtp.command(b"MAIL FROM:<a@client.example>").code == 250
    assert smtp.command(b"RCPT TO:<b@example.com>").code == 250


def lost(call: Callable[[], object]) -> UpstreamLost:
    with pytest.raises(UpstreamLost) as caught:
        call()
    return caught.value


# -- replies -----------------------------------------------------------------------------------------------------------


def test_a_reply_of_several_lines(smtp: SmtpClient, upstream: FakeUpstream) -> None:
    upstream.on("NOOP", "550-5.7.1 Not you\n550-5.7.1 nor your kind\n550 5.7.1 ever")
    assert smtp.command(b"NOOP") == Reply(550, "5.7.1", "Not you", "nor your kind", "ever")


def test_a_hundred_lines_are_taken(smtp: SmtpClient, upstream: FakeUpstream) -> None:
    upstream.on("NOOP", "\n".join(["250-more"] * 99 + ["250 done"]))
    assert len(smtp.command(b"NOOP").lines) == 100


def test_replies_come_in_the_order_of_the_commands(smtp: SmtpClient, upstream: FakeUpstream) -> None:
    upstream.on("RCPT", "550 5.1.1 No c", argument="c@")
    for command in (b"MAIL FROM:<a@client.example>", b"RCPT TO:<b@example.com>", b"RCPT TO:<c@example.com>", b"DATA"):
        smtp.send(command)
    assert [smtp.reply("group", 5.0).code for _ in range(4)] == [250, 250, 550, 354]
    assert len(upstream.conversations[0].reads) == 2, "EHLO, and the group in one piece"


def test_the_tap_is_told_both_sides(smtp: SmtpClient) -> None:
    heard: list[bytes | Reply] = []
    smtp.tap = heard.append
    reply = smtp.command(b"NOOP")
    assert heard == [b"NOOP", reply]


GARBAGE = {
    "no reply at all": b"hello there\r\n",
    "a binary answer": b"\xff\xfe\0\1\r\n",
    "a code that is none": b"999 5.0.0 what\r\n",
    "an interim code of HTTP": b"100 Continue\r\n",
    "codes that change between lines": b"250-one\r\n550 two\r\n",
    "a line too long": b"250 " + b"x" * 3000 + b"\r\n",
    "a line without an end": b"250 " + b"x" * (2 << 20),
    "more than a hundred lines": b"250-more\r\n" * 101 + b"250 done\r\n",
    "an empty line": b"\r\n",
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE)
def test_nonsense_is_a_lost_upstream(smtp: SmtpClient, upstream: FakeUpstream, answer: bytes) -> None:
    upstream.on("NOOP", answer)
    assert lost(lambda: smtp.command(b"NOOP")).phase == "NOOP"


def test_the_time_for_a_reply_is_for_all_of_its_lines() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    smtp = SmtpClient(connect(listener.getsockname(), 5.0), SHORT)
    server, _ = listener.accept()

    def drip() -> None:
        while True:
            server.sendall(b"250-more\r\n")
            gevent.sleep(SHORT.final / 10)

    with gevent.Timeout(5), closing(listener), closing(server):
        dripping = gevent.spawn(drip)
        failure = lost(smtp.final_reply)
        dripping.kill()
        smtp.close()
    assert (failure.phase, failure.silent) == ("end of data", True)


# -- lost, in each phase -----------------------------------------------------------------------------------------------

PHASES = {
    "greeting": lambda smtp: smtp.greet(),
    "EHLO": lambda smtp: smtp.hello("mx.example.com"),
    "MAIL": lambda smtp: smtp.command(b"MAIL FROM:<a@client.example>"),
    "RCPT": lambda smtp: smtp.command(b"RCPT TO:<b@example.com>"),
    "DATA": lambda smtp: smtp.data(),
    "dot": lambda smtp: (smtp.body([b"Subject: x\r\n"]), smtp.end_of_data()),
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("act", [DROP, HANG], ids=["closes", "is silent"])
def test_an_upstream_that_is_lost_says_in_which_phase(upstream: FakeUpstream, dial: Dial, phase: str, act: object) -> None:
    upstream.on(phase, act)
    smtp = dial(upstream)
    for name, step in PHASES.items():
        if name == phase:
            break
        step(smtp)
    smtp.timeouts = SHORT
    failure = lost(lambda: step(smtp))
    assert failure.phase == {"dot": "end of data"}.get(phase, phase)
    assert failure.silent is (act is HANG)


def test_a_server_that_closes_in_the_middle_of_the_message(smtp: SmtpClient, upstream: FakeUpstream) -> None:
    upstream.on("body", DROP)
    envelope(smtp)
    smtp.data()
    assert lost(lambda: smtp.body([b"x" * 65536] * 100)).phase == "message"


def test_a_server_that_stops_reading_the_message(smtp: SmtpClient, upstream: FakeUpstream) -> None:
    from smtpproxy.testing.acts import Hold

    upstream.on("body", hold := Hold())
    envelope(smtp)
    smtp.data()
    smtp.timeouts = SHORT
    assert lost(lambda: smtp.body([b"x" * 65536] * 200)).phase == "message"
    hold.release()


def test_what_the_body_raises_passes_through(smtp: SmtpClient) -> None:
    def body() -> Iterator[bytes]:
        yield b"Subject: x\r\n"
        raise ZeroDivisionError

    envelope(smtp)
    smtp.data()
    with pytest.raises(ZeroDivisionError):
        smtp.body(body())


# -- the beginning of a session ----------------------------------------------------------------------------------------


def test_the_extensions_are_those_of_the_last_hello(smtp: SmtpClient, upstream: FakeUpstream) -> None:
    assert smtp.extensions.size == 52428800
    upstream.keywords[:] = ["8BITMIME"]
    smtp.hello("mx.example.com")
    assert dict(smtp.extensions) == {"8BITMIME": ""}


def test_a_handshake_has_as_long_as_a_connection(smtp: SmtpClient, upstream: FakeUpstream) -> None:
    upstream.on("STARTTLS", "220 2.0.0 Go ahead")
    smtp.timeouts = SHORT._replace(mail=5.0)
    with gevent.Timeout(2):
        failure = lost(lambda: smtp.start_tls(ssl.create_default_context(), "mx.example.com"))
    assert (failure.phase, failure.silent) == ("TLS handshake", True)


def test_a_server_without_ehlo_is_greeted_with_helo(upstream: FakeUpstream, dial: Dial) -> None:
    upstream.on("EHLO", "502 5.5.1 What?")
    smtp = dial(upstream)
    smtp.greet()
    assert smtp.hello("mx.example.com").code == 250
    assert upstream.commands == ["EHLO mx.example.com", "HELO mx.example.com"]
    assert not smtp.extensions


def test_a_temporary_refusal_of_ehlo_is_no_reason_for_helo(upstream: FakeUpstream, dial: Dial) -> None:
    upstream.on("EHLO", "451 4.3.0 Later")
    smtp = dial(upstream)
    smtp.greet()
    assert smtp.hello("mx.example.com").code == 451
    assert upstream.commands == ["EHLO mx.example.com"]


def test_lmtp_says_lhlo_and_never_helo(dial: Dial) -> None:
    with FakeUpstream(lmtp=True) as server:
        server.on("LHLO", "500 5.5.1 What?")
        smtp = dial(server)
        smtp.greet()
        assert smtp.hello("mx.example.com").code == 500
        assert server.commands == ["LHLO mx.example.com"]


def test_lmtp_answers_for_each_recipient(dial: Dial) -> None:
    with FakeUpstream(lmtp=True) as server:
        server.on("dot", "552 5.2.2 Full", argument="c@")
        smtp = dial(server)
        smtp.greet()
        smtp.hello("mx.example.com")
        envelope(smtp)
        smtp.command(b"RCPT TO:<c@example.com>")
        smtp.data()
        smtp.body([b"Subject: x\r\n"])
        assert [smtp.end_of_data().code, smtp.final_reply().code] == [250, 552]


# -- the end -----------------------------------------------------------------------------------------------------------


def test_quit_waits_for_the_answer_and_never_raises(smtp: SmtpClient, upstream: FakeUpstream) -> None:
    upstream.on("QUIT", DROP)
    smtp.quit()
    assert upstream.commands[-1] == "QUIT"


def test_leaving_does_not_wait(smtp: SmtpClient, upstream: FakeUpstream) -> None:
    upstream.on("QUIT", HANG)
    meanwhile: list[str] = []
    gevent.spawn(meanwhile.append, "another ran")
    smtp.leave()
    assert meanwhile == []
    assert upstream.wait_for(lambda it: it.commands[-1] == "QUIT")
