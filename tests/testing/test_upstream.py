"""The fake upstream and the fake client, with each other."""

from __future__ import annotations

import gevent
import pytest

from smtpproxy.testing.acts import DROP, HANG, Hold
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.upstream import FakeUpstream


def envelope(client: FakeClient) -> None:
    client.send("MAIL FROM:<a@client.example> SIZE=5")
    client.send("RCPT TO:<b@example.com>")


def test_a_message_is_kept_as_it_came(upstream: FakeUpstream) -> None:
    with FakeClient.greeted(upstream.port) as client:
        envelope(client)
        assert client.message(b"Subject: x\r\n\r\n.dot\r\n") == "250 2.0.0 Ok: taken"
    (message,) = upstream.messages
    assert (message.sender, message.params, message.recipients) == ("a@client.example", "SIZE=5", ["b@example.com"])
    assert message.wire == b"Subject: x\r\n\r\n..dot\r\n"
    assert message.content == b"Subject: x\r\n\r\n.dot\r\n"
    assert message.body == b".dot\r\n"


def test_an_empty_message(upstream: FakeUpstream) -> None:
    with FakeClient.greeted(upstream.port) as client:
        envelope(client)
        assert client.message(b"").code == 250
    assert upstream.messages[0].wire == b""


def test_only_crlf_dot_crlf_ends_a_message(upstream: FakeUpstream) -> None:
    with FakeClient.greeted(upstream.port) as client:
        envelope(client)
        client.expect("354") if client.raw(b"DATA\r\n") else client.reply()
        for part in (b"a\n.\n", b"b\r.\r", b"c\n.\r\nd\r", b"\n.", b"\r", b"\nQUIT\r\n"):
            client.raw(part)
        client.expect("250")
        client.expect("221")
    assert upstream.messages[0].wire == b"a\n.\nb\r.\rc\n.\r\nd\r\n"


def test_orders_are_for_a_stage_or_an_argument_of_it(upstream: FakeUpstream) -> None:
    upstream.on("RCPT", "550 5.1.1 No", argument="nobody@")
    upstream.on("NOOP", "250-one\n250 two", "421 4.3.2 Enough")
    with FakeClient.greeted(upstream.port) as client:
        client.send("MAIL FROM:<>")
        assert client.send("RCPT TO:<nobody@example.com>").enhanced == "5.1.1"
        assert client.send("RCPT TO:<b@example.com>").code == 250
        assert [client.send("NOOP") for _ in range(3)] == ["250-one\n250 two", "421 4.3.2 Enough", "421 4.3.2 Enough"]


def test_dropping_and_garbage(upstream: FakeUpstream) -> None:
    upstream.on("NOOP", b"\xff garbage\r\n")
    upstream.on("RSET", DROP)
    with FakeClient.greeted(upstream.port) as client:
        assert "garbage" in client.send("NOOP")
        client.raw(b"RSET\r\n")
        assert client.closed()


def test_hanging_reads_on_and_says_nothing(upstream: FakeUpstream) -> None:
    upstream.on("NOOP", HANG)
    with FakeClient.greeted(upstream.port) as client:
        client.raw(b"NOOP\r\nRSET\r\n")
        upstream.wait_for(lambda it: it.conversations[0].wire.endswith(b"RSET\r\n"))
        assert client.quiet()


def test_holding_until_released(upstream: FakeUpstream) -> None:
    hold = Hold("250 2.0.0 At last")
    upstream.on("NOOP", hold)
    with FakeClient.greeted(upstream.port) as client:
        answer = gevent.spawn(client.send, "NOOP")
        assert hold.reached.wait(15)
        assert not answer.ready()
        hold.release()
        assert answer.get(timeout=15) == "250 2.0.0 At last"


def test_xclient_begins_again() -> None:
    with FakeUpstream(keywords=["PIPELINING", "XCLIENT NAME ADDR"]) as upstream:
        with FakeClient.greeted(upstream.port) as client:
            client.send("XCLIENT ADDR=192.0.2.1 NAME=a+2Eexample").startswith("220 ")
            assert client.send("MAIL FROM:<>").code == 503
            assert "XCLIENT" not in client.send("EHLO client.example")
        assert upstream.conversations[0].xclient == {"ADDR": "192.0.2.1", "NAME": "a.example"}


def test_xclient_of_a_stranger(upstream: FakeUpstream) -> None:
    with FakeClient.greeted(upstream.port) as client:
        assert client.send("XCLIENT ADDR=192.0.2.1").code == 550


def test_xforward_belongs_to_the_message() -> None:
    with FakeUpstream(keywords=["XFORWARD ADDR"]) as upstream:
        with FakeClient.greeted(upstream.port) as client:
            assert client.send("XFORWARD ADDR=192.0.2.1").code == 250
            envelope(client)
            client.message(b"")
            envelope(client)
            client.message(b"")
        assert [message.xforward for message in upstream.messages] == [{"ADDR": "192.0.2.1"}, {}]


def test_lmtp_answers_for_each_recipient() -> None:
    with FakeUpstream(lmtp=True) as upstream:
        upstream.on("dot", "552 5.2.2 Full", argument="full@")
        with FakeClient.greeted(upstream.port, "LHLO client.example") as client:
            client.send("MAIL FROM:<>")
            client.pipeline(["RCPT TO:<full@example.com>", "RCPT TO:<b@example.com>"])
            assert client.message(b"").code == 552
            assert client.reply().code == 250
        assert upstream.messages[0].recipients == ["b@example.com"]


def test_a_client_that_expects_otherwise(upstream: FakeUpstream) -> None:
    with FakeClient(upstream.port) as client, pytest.raises(AssertionError, match="expected '554'"):
        client.expect("554")


def test_a_server_that_hangs_up_is_an_error_where_a_reply_was_expected(upstream: FakeUpstream) -> None:
    upstream.on("greeting", DROP)
    with FakeClient(upstream.port) as client, pytest.raises(ConnectionError):
        client.reply()
