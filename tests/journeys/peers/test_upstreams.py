"""Other people's mail servers behind us: what they can do is what we offer, and every octet reaches the mailbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.instance import one_listener
from smtpproxy.testing.process import RunningServer
from smtpproxy.testing.waiting import until

Start = Callable[..., RunningServer]

MTAS = ("postfix", "exim", "opensmtpd")
# Whole headers: what is missing, servers add.
HEADER = b"From: alice@client.test\r\nDate: Mon, 23 Nov 2026 18:00:00 +0000\r\nMessage-Id: <1@client.test>\r\n"
CONTENT = (
    HEADER + b"Subject: hello\r\nX-Odd:  two  spaces \r\n\t folded\r\n\r\n"
    b".dots\r\n..more\r\n  end  \r\n" + "größer\r\n".encode() + b"x" * 900 + b"\r\n\r\n"
)
LARGE = HEADER + b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 60 + b"\r\n" + (b"." * 76 + b"\r\n") * 65_000
# OpenSMTPD 6.8 of Debian 12 loses its private key with OpenSSL 3 and fails every handshake as a server.
USED = {"postfix": "TLS connection established from", "exim": " X=TLS1.3"}


def deliver(client: FakeClient, content: bytes, params: str = "", *recipients: str) -> str:
    assert client.send(f"MAIL FROM:<alice@client.test>{params}").code == 250
    for recipient in recipients or ("box@example.com",):
        assert client.send(f"RCPT TO:<{recipient}>").code == 250
    return client.message(content)


def arrives(peer: Any, content: bytes) -> bytes:
    """Wait for the message in the mailbox that ends with these octets. What stands above them."""
    expected = content.replace(b"\r\n", b"\n")

    def found() -> list[bytes]:
        stored = [message.replace(b"\r\n", b"\n").rstrip(b"\n") for message in peer.delivered]
        return [message for message in stored if message.endswith(b"\n" + expected.rstrip(b"\n"))]

    (message,) = until(found, 20, f"the message, unchanged, in the mailbox, which holds {len(peer.delivered)}")
    return message[: -len(expected.rstrip(b"\n"))]


@pytest.mark.parametrize("name", MTAS)
def test_a_message_arrives_octet_by_octet(name: str, mta: Callable[..., Any], start: Start) -> None:
    peer = mta(name)
    for kind in ("proxy", "relay"):
        server = start(one_listener(kind, f"127.0.0.1:{peer.port}"))
        content, large = (f"X-Kind: {kind}\r\n".encode() + rest for rest in (CONTENT, LARGE))
        with server.client() as client:
            assert deliver(client, content, " BODY=8BITMIME").startswith("250 2.")
            assert deliver(client, large, f" SIZE={len(large)}").startswith("250 2.")
        for sent in (content, large):
            top = arrives(peer, sent)
            assert b"by mx.example.com" in top and top.count(b"Received: ") == 2
    assert len(peer.delivered) == 4


@pytest.mark.parametrize("name", USED)
def test_tls_must(name: str, mta: Callable[..., Any], start: Start, certificates: Any) -> None:
    peer = mta(name, certificates)
    for kind in ("proxy", "relay"):
        server = start(one_listener(kind, f"127.0.0.1:{peer.port}", settings='tls = "must"'))
        with server.client() as client:
            assert deliver(client, b"X-Kind: " + kind.encode() + b"\r\n" + CONTENT).startswith("250 2.")
        arrives(peer, b"X-Kind: " + kind.encode() + b"\r\n" + CONTENT)
    assert len(peer.logged(USED[name])) >= 2


@pytest.mark.parametrize("name", USED)
def test_tls_verified(name: str, mta: Callable[..., Any], start: Start, certificates: Any) -> None:
    peer = mta(name, certificates)
    verify = f'tls = "verify"\ntls_ca = "{certificates.authority}"\n'
    stranger = start(one_listener("proxy", f"127.0.0.1:{peer.port}", settings=verify + 'tls_name = "other.example.com"'))
    with stranger.client() as client:
        client.send("MAIL FROM:<alice@client.test>")
        assert client.send("RCPT TO:<box@example.com>").startswith("451 4.4.1 ")
    server = start(one_listener("proxy", f"127.0.0.1:{peer.port}", settings=verify + 'tls_name = "mx.example.com"'))
    with server.client() as client:
        assert deliver(client, CONTENT).startswith("250 2.")
    arrives(peer, CONTENT)


@pytest.mark.parametrize("name", MTAS)
def test_tls_may_does_without_and_must_does_not(name: str, mta: Callable[..., Any], start: Start) -> None:
    peer = mta(name)
    server = start(one_listener("proxy", f"127.0.0.1:{peer.port}", settings='tls = "must"'))
    with server.client() as client:
        client.send("MAIL FROM:<alice@client.test>")
        assert client.send("RCPT TO:<box@example.com>").startswith("451 4.4.1 ")
    server = start(one_listener("proxy", f"127.0.0.1:{peer.port}", settings='tls = "may"'))
    with server.client() as client:
        assert deliver(client, CONTENT).startswith("250 2.")


@pytest.mark.parametrize("name", MTAS)
def test_one_recipient_of_two_is_refused(name: str, mta: Callable[..., Any], start: Start) -> None:
    peer = mta(name)
    server = start(one_listener("proxy", f"127.0.0.1:{peer.port}"))
    with server.client() as client:
        assert client.send("MAIL FROM:<alice@client.test>").code == 250
        assert client.send("RCPT TO:<nobody@example.com>").code in (524, 550, 554)
        assert client.send("RCPT TO:<box@example.com>").code == 250
        assert client.message(CONTENT).startswith("250 2.")
    arrives(peer, CONTENT)
    assert len(peer.delivered) == 1


def offered(port: int) -> dict[str, str]:
    """The EHLO answer's keywords with their parameters."""
    with FakeClient(port) as client:
        client.expect("220")
        lines = client.send("EHLO client.test").texts[1:]
    return {keyword: rest for keyword, _, rest in (line.partition(" ") for line in lines)}


@pytest.mark.parametrize("name", MTAS)
def test_what_is_offered_is_what_it_can_carry(name: str, mta: Callable[..., Any], start: Start) -> None:
    peer = mta(name, size="1000000")
    server = start(one_listener("proxy", f"127.0.0.1:{peer.port}"))
    theirs = offered(peer.port)
    until(lambda: offered(server.port).get("SIZE") == "1000000", what="the size limit of the server behind")
    ours = offered(server.port)
    for keyword in ("8BITMIME", "SMTPUTF8"):
        assert (keyword in ours) == (keyword in theirs), keyword
    with server.client() as client:
        assert client.send("MAIL FROM:<alice@client.test> SIZE=2000000").startswith("552 5.3.4")


@pytest.mark.parametrize("name", ["postfix", "exim"])
def test_international_addresses(name: str, mta: Callable[..., Any], start: Start) -> None:
    peer = mta(name)
    server = start(one_listener("proxy", f"127.0.0.1:{peer.port}"))
    until(lambda: "SMTPUTF8" in offered(server.port))
    with server.client() as client:
        assert client.send("MAIL FROM:<jörg@client.test> SMTPUTF8 BODY=8BITMIME").code == 250
        assert client.send("RCPT TO:<box@example.com>").code == 250
        assert client.message(CONTENT).startswith("250 2.")
    assert "jörg@client.test".encode() in arrives(peer, CONTENT) + peer.log.encode()


def test_opensmtpd_takes_no_international_addresses_and_none_is_offered(mta: Callable[..., Any], start: Start) -> None:
    peer = mta("opensmtpd")
    server = start(one_listener("proxy", f"127.0.0.1:{peer.port}"))
    until(lambda: "8BITMIME" in offered(server.port))
    with server.client() as client:
        assert client.send("MAIL FROM:<jörg@client.test> SMTPUTF8").startswith("553 5.6.7 ")
        assert client.send("MAIL FROM:<alice@client.test> SMTPUTF8").startswith("555 ")


@pytest.mark.parametrize("name", MTAS)
def test_a_client_that_pipelines(name: str, mta: Callable[..., Any], start: Start) -> None:
    peer = mta(name)
    server = start(one_listener("proxy", f"127.0.0.1:{peer.port}"))
    commands = ["MAIL FROM:<alice@client.test>", "RCPT TO:<nobody@example.com>", "RCPT TO:<box@example.com>", "DATA"]
    with server.client() as client:
        assert [reply.code // 100 for reply in client.pipeline(commands)] == [2, 5, 2, 3]
        assert client.data(HEADER + b"\r\none\r\n.\r\n").code == 250
        assert [reply.code for reply in client.pipeline(["RSET", "NOOP", "QUIT"])] == [250, 250, 221]
    arrives(peer, HEADER + b"\r\none\r\n")
