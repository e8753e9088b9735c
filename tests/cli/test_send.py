"""`smtpproxy send`: what it says to a server, what it prints, and its exit status."""

from __future__ import annotations

import base64
import io
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from gevent.server import StreamServer

from smtpproxy.cli.main import main
from smtpproxy.testing.acts import DROP, HANG
from smtpproxy.testing.upstream import KEYWORDS, FakeUpstream

Send = Callable[..., int]


@pytest.fixture
def send(upstream: FakeUpstream) -> Send:
    return lambda *options: main(["send", "--port", str(upstream.port), *options])


def test_a_message_and_the_dialogue(send: Send, upstream: FakeUpstream, capsys: pytest.CaptureFixture[str]) -> None:
    assert send("--from", "a@client.example", "--to", "b@example.com", "--helo", "client.example") == 0
    (message,) = upstream.messages
    assert (message.sender, message.recipients) == ("a@client.example", ["b@example.com"])
    assert message.params == f"SIZE={len(message.content)}"
    assert upstream.commands == [
        "EHLO client.example",
        f"MAIL FROM:<a@client.example> SIZE={len(message.content)}",
        "RCPT TO:<b@example.com>",
        "DATA",
        "QUIT",
    ]
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["<- 220 upstream.example ESMTP", "-> EHLO client.example"]
    assert told[-1] == "final reply: 250 2.0.0 Ok: taken"


def test_the_fields_that_a_message_needs(send: Send, upstream: FakeUpstream) -> None:
    send("--from", "a@client.example", "--to", "b@example.com,c@example.com", "--subject", "lunch")
    (message,) = upstream.messages
    assert message.recipients == ["b@example.com", "c@example.com"]
    names = [line.partition(b":")[0] for line in message.header.splitlines() if not line.startswith(b" ")]
    assert names == [b"Date", b"From", b"To", b"Subject", b"Message-Id"]
    assert b"To: b@example.com, c@example.com\r\nSubject: lunch\r\n" in message.header
    assert message.body == b"This is a test message.\r\n"


def test_own_headers_take_the_place_of_the_usual_ones(send: Send, upstream: FakeUpstream) -> None:
    send("--header", "Subject: urgent: lunch", "--add-header", "X-One: 1", "--header", "X-One: 2")
    (message,) = upstream.messages
    assert message.header.count(b"Subject:") == 1
    assert message.header.endswith(b"Subject: urgent: lunch\r\nX-One: 1\r\nX-One: 2\r\n")


def test_a_body_from_the_command_line(send: Send, upstream: FakeUpstream) -> None:
    send("--body", "one\\n.two\\n")
    assert upstream.messages[0].body == b"one\r\n.two\r\n"


def test_a_body_from_a_file(send: Send, upstream: FakeUpstream, tmp_path: Path) -> None:
    (tmp_path / "body").write_text("größer\n")
    send("--body", f"@{tmp_path / 'body'}")
    (message,) = upstream.messages
    assert message.body == "größer\r\n".encode()
    assert message.params.endswith(" BODY=8BITMIME")
    assert b"Content-Type: text/plain; charset=utf-8\r\n" in message.header


@pytest.mark.parametrize("content", [b"Subject: as it is\r\n\r\n.dot\r\n", b"no header\n"])
def test_a_whole_message_from_a_file(send: Send, upstream: FakeUpstream, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "message.eml").write_bytes(content)
    assert send("--data", str(tmp_path / "message.eml")) == 0
    assert upstream.messages[0].content == content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def test_a_whole_message_from_standard_input(send: Send, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"Subject: piped\n\nhello\n")))
    assert send("--data", "-") == 0
    assert upstream.messages[0].content == b"Subject: piped\r\n\r\nhello\r\n"


@pytest.mark.parametrize("word", ["", "<>"])
def test_the_null_sender(send: Send, upstream: FakeUpstream, word: str) -> None:
    assert send("--from", word) == 0
    assert upstream.commands[1].startswith("MAIL FROM:<> ")


def test_international_addresses(send: Send, upstream: FakeUpstream) -> None:
    assert send("--from", "jörg@client.example", "--to", "müller@example.com") == 0
    (message,) = upstream.messages
    assert message.sender == "jörg@client.example" and message.recipients == ["müller@example.com"]
    assert message.params.endswith(" SMTPUTF8")


def test_coming_as_another_client(send: Send, upstream: FakeUpstream) -> None:
    upstream.keywords.append("XCLIENT ADDR NAME")
    assert send("--xclient", "ADDR=192.0.2.7 NAME=host.example", "--helo", "me.example") == 0
    assert upstream.messages[0].xclient == {"ADDR": "192.0.2.7", "NAME": "host.example"}
    assert [line.split(" ")[0] for line in upstream.commands[:4]] == ["EHLO", "XCLIENT", "EHLO", "MAIL"]


# exit status


@pytest.mark.parametrize("stage", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "dot"])
@pytest.mark.parametrize("code", ["451 4.7.1", "550 5.7.1"])
def test_a_refusal_at_any_stage(
    send: Send, upstream: FakeUpstream, capsys: pytest.CaptureFixture[str], stage: str, code: str
) -> None:
    upstream.on(stage, f"{code} No")
    if stage == "EHLO":
        upstream.on("HELO", f"{code} No")
    assert send("--quiet") == 1
    assert capsys.readouterr().out == f"{code} No\n"


def test_one_recipient_of_two_refused(send: Send, upstream: FakeUpstream, capsys: pytest.CaptureFixture[str]) -> None:
    upstream.on("RCPT", "550 5.1.1 No such user", argument="nobody")
    assert send("-q", "--to", "nobody@example.com", "--to", "b@example.com") == 1
    assert upstream.messages[0].recipients == ["b@example.com"]
    assert capsys.readouterr().out == "refused: nobody@example.com: 550 5.1.1 No such user\n250 2.0.0 Ok: taken\n"


@pytest.mark.parametrize("stage", ["greeting", "MAIL", "body", "dot"])
def test_a_server_that_hangs_up(send: Send, upstream: FakeUpstream, capsys: pytest.CaptureFixture[str], stage: str) -> None:
    upstream.on(stage, DROP)
    assert send() == 1
    assert capsys.readouterr().err.startswith(f"smtpproxy send: 127.0.0.1:{upstream.port}: ")


def test_a_server_that_says_nothing(send: Send, upstream: FakeUpstream, capsys: pytest.CaptureFixture[str]) -> None:
    upstream.on("MAIL", HANG)
    assert send("--timeout", "0.2") == 1
    assert "no reply within 0.2 s (MAIL)" in capsys.readouterr().err


def test_nobody_there(upstream: FakeUpstream, capsys: pytest.CaptureFixture[str]) -> None:
    port = upstream.port
    upstream.stop()
    assert main(["send", "--server", f"127.0.0.1:{port}"]) == 1
    assert capsys.readouterr().err == f"smtpproxy send: 127.0.0.1:{port}: Connection refused\n"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--to", "not an address"], "not an address"),
        (["--header", "Subject"], "'NAME: VALUE'"),
        (["--header", "Sub ject: x"], "Sub ject"),
        (["--data", "/none/message.eml"], "No such file"),
        (["--server", "127.0.0.1:smtp"], "'smtp' is no port"),
    ],
)
def test_arguments_that_make_no_sense(options: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", *options]) == 2
    assert told in capsys.readouterr().err


# LMTP, login, TLS


@pytest.fixture
def lmtp() -> Iterator[FakeUpstream]:
    with FakeUpstream(lmtp=True) as server:
        yield server


def test_lmtp(lmtp: FakeUpstream) -> None:
    assert main(["send", "--lmtp", "--port", str(lmtp.port), "--to", "a@example.com,b@example.com"]) == 0
    assert lmtp.messages[0].recipients == ["a@example.com", "b@example.com"]
    assert lmtp.commands[0].startswith("LHLO ")


def test_lmtp_that_saves_for_one_of_two(lmtp: FakeUpstream, capsys: pytest.CaptureFixture[str]) -> None:
    lmtp.on("dot", "452 4.2.2 Full", argument="b@")
    assert main(["send", "-q", "--lmtp", "--port", str(lmtp.port), "--to", "a@example.com,b@example.com"]) == 1
    assert capsys.readouterr().out == "refused: b@example.com: 452 4.2.2 Full\n452 4.2.2 Full\n"


def test_login(send: Send, upstream: FakeUpstream, capsys: pytest.CaptureFixture[str]) -> None:
    upstream.keywords.append("AUTH PLAIN LOGIN")
    upstream.on("AUTH", "235 2.7.0 Welcome")
    assert send("--auth", "alice", "--password", "s3cret") == 0
    secret = base64.b64encode(b"\0alice\0s3cret").decode()
    assert upstream.commands[1] == f"AUTH PLAIN {secret}"
    told = capsys.readouterr().out
    assert "-> AUTH PLAIN ...\n<- 235 2.7.0 Welcome\n" in told
    assert secret not in told and "s3cret" not in told


def test_a_login_that_is_refused(send: Send, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTPPROXY_PASSWORD", "wrong")
    upstream.keywords.append("AUTH LOGIN")
    upstream.on("AUTH", "535 5.7.8 No")
    assert send("--auth", "alice") == 1
    assert upstream.messages == []


class TlsServer:
    """An SMTP server that wants STARTTLS before mail; `lines` is what came, with "TLS" for the handshake."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("elsewhere.example").configure_cert(self._context)
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.port = int(self._server.address[1])

    def stop(self) -> None:
        self._server.stop(timeout=0)

    def _serve(self, channel: Any, peer: object) -> None:
        channel.sendall(b"220 tls.example ESMTP\r\n")
        file = channel.makefile("rb")
        while line := file.readline():
            self.lines.append(line.decode().rstrip())
            verb = line[:4].upper()
            if verb == b"STAR":
                channel.sendall(b"220 2.0.0 Go\r\n")
                channel = self._context.wrap_socket(channel, server_side=True)
                file = channel.makefile("rb")
                self.lines.append("TLS")
                continue
            if verb == b"DATA":
                channel.sendall(b"354 Go\r\n")
                while file.readline() != b".\r\n":
                    pass
            channel.sendall(b"250-tls.example\r\n250 STARTTLS\r\n" if verb == b"EHLO" else b"250 2.0.0 Ok\r\n")


@pytest.fixture
def tls() -> Iterator[TlsServer]:
    server = TlsServer()
    yield server
    server.stop()


@pytest.mark.parametrize("word", ["--tls", "-tls"])
def test_starttls_whatever_the_certificate_says(tls: TlsServer, word: str) -> None:
    assert main(["send", "--port", str(tls.port), word, "--helo", "me.example"]) == 0
    assert tls.lines[:5] == ["EHLO me.example", "STARTTLS", "TLS", "EHLO me.example", "MAIL FROM:<sender@example.com>"]


def test_a_server_without_tls_gets_no_mail(send: Send, upstream: FakeUpstream, capsys: pytest.CaptureFixture[str]) -> None:
    assert send("--tls", "-q") == 1
    assert capsys.readouterr().out == "500 5.5.1 Not known\n"
    assert upstream.messages == []


def test_a_handshake_that_fails(send: Send, upstream: FakeUpstream, capsys: pytest.CaptureFixture[str]) -> None:
    upstream.on("STARTTLS", "220 2.0.0 Go")  # and then it knows nothing of TLS: silent, unless the hello looks like a line
    assert send("--tls", "--timeout", "2") == 1
    assert "(TLS handshake)" in capsys.readouterr().err


def test_a_handshake_that_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeUpstream(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as upstream:  # it has no certificate to show
        assert main(["send", "--port", str(upstream.port), "--tls"]) == 1
    assert "ALERT_HANDSHAKE_FAILURE" in (said := capsys.readouterr().err) and "(TLS handshake)" in said


def test_parameters_the_server_does_not_know_are_left_out(send: Send, upstream: FakeUpstream) -> None:
    upstream.keywords = [keyword for keyword in KEYWORDS if not keyword.startswith(("SIZE", "8BITMIME"))]
    send("--body", "größer")
    assert upstream.messages[0].params == ""
