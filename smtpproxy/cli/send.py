"""`smtpproxy send`: a test client. Sends one message, prints the dialogue, exits 0 only for a final 2xx."""

from __future__ import annotations

import argparse
import getpass
import os
import socket
import ssl
import sys
from collections.abc import Iterator
from typing import Any

from smtpproxy.cli.letter import message
from smtpproxy.delivery.login import log_in
from smtpproxy.delivery.smtp import SmtpClient, Timeouts, UpstreamLost
from smtpproxy.message.body import bytes_body
from smtpproxy.wire.address import Address, AddressError, parse_address
from smtpproxy.wire.reply import Reply

PORT = 2525
BODY = "This is a test message.\n"
NULL = Address("", "", "")


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("send", help="send a message", description=__doc__)
    option = parser.add_argument
    option("-f", "--from", dest="sender", default="sender@example.com", metavar="ADDRESS", help='"" for the null sender')
    option("-t", "--to", action="append", metavar="ADDRESS", help="a recipient, or several with commas; may be repeated")
    option("-s", "--server", default="127.0.0.1", metavar="HOST[:PORT]", help="default 127.0.0.1")
    option("-p", "--port", type=int, metavar="PORT", help=f"default {PORT}")
    option("--ehlo", "--helo", dest="helo", default="", metavar="NAME", help="default: this machine's name")
    option("--xclient", metavar="'ADDR=... NAME=...'", help="come as another client, where the server takes XCLIENT")
    option("--subject", default="test from smtpproxy send")
    option("--header", "--add-header", action="append", default=[], metavar="'NAME: VALUE'", help="may be repeated")
    option("--body", default=BODY, metavar="TEXT", help="\\n is a new line; @FILE reads it from a file")
    option("--data", "--file", dest="data", metavar="FILE", help="a whole message, sent as it is; - for standard input")
    option("--tls", "-tls", action="store_true", help="STARTTLS, whatever the certificate says")
    option("--auth", "--auth-user", nargs="?", const="", metavar="USER", help="log in; the password is asked for")
    option("--password", "--auth-password", metavar="PASSWORD", help="or from the environment: SMTPPROXY_PASSWORD")
    option("--lmtp", action="store_true", help="speak LMTP")
    option("--timeout", type=float, default=60.0, metavar="SECONDS", help="for each step; default 60")
    option("-q", "--quiet", action="store_true", help="print the final reply only")


def run(args: argparse.Namespace) -> int:
    try:
        words = [part.strip() for word in args.to or ["postmaster@example.com"] for part in word.split(",")]
        recipients = [address(word) for word in words if word]
        sender = address(args.sender) if args.sender.strip("<>") else NULL
        letter = Letter(sender, recipients, message(args, str(sender), words))
        host, port = _server(args)
    except (OSError, ValueError) as error:
        print(f"smtpproxy send: {error}", file=sys.stderr)
        return 2
    try:
        client = SmtpClient(_connect(host, port, args.timeout), Timeouts(*[args.timeout] * 6), args.lmtp)
        client.tap = None if args.quiet else _print
        reply = _converse(client, args, letter)
        client.quit()
    except (UpstreamLost, OSError) as error:
        print(f"smtpproxy send: {host}:{port}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 1
    for rcpt, refusal in letter.refused:
        print(f"refused: {rcpt}: {refusal}")
    print(reply if args.quiet else f"final reply: {reply}")
    return 0 if 200 <= reply.code < 300 and not letter.refused else 1


def address(word: str) -> Address:
    """An address of the command line. Raises ValueError, which names it."""
    try:
        return parse_address(word)
    except AddressError as error:
        raise ValueError(f"{word!r}: {error}") from None


class Letter:
    """A message, its envelope, and who of its recipients was refused."""

    def __init__(self, sender: Address, recipients: list[Address], content: bytes) -> None:
        self.sender = sender
        self.recipients = recipients
        self.content = content
        self.refused: list[tuple[Address, Reply]] = []

    def parameters(self, client: SmtpClient) -> str:
        """What MAIL says of it, as far as the server knows such words; SMTPUTF8 where it cannot go without."""
        words = [f"SIZE={len(self.content)}"] if "SIZE" in client.extensions else []
        if not self.content.isascii() and "8BITMIME" in client.extensions:
            words.append("BODY=8BITMIME")
        if not all(address.path.isascii() for address in (self.sender, *self.recipients)):
            words.append("SMTPUTF8")
        return "".join(f" {word}" for word in words)


# -- the dialogue ----------------------------------------------------------------------------------------------------


def _converse(client: SmtpClient, args: argparse.Namespace, letter: Letter) -> Reply:
    """The dialogue up to the reply that decides; a refusal ends it."""
    for reply in _opening(client, args):
        if not reply.positive:
            return reply
    reply = client.command(f"MAIL FROM:<{letter.sender.path}>{letter.parameters(client)}".encode())
    if not reply.positive:
        return reply
    accepted = []
    for rcpt in letter.recipients:
        reply = client.command(f"RCPT TO:<{rcpt.path}>".encode())
        if reply.positive:
            accepted.append(rcpt)
        elif len(letter.recipients) > 1:
            letter.refused.append((rcpt, reply))
    return _message(client, letter, accepted) if accepted else reply


def _message(client: SmtpClient, letter: Letter, accepted: list[Address]) -> Reply:
    reply = client.data()
    if reply.code != 354:
        return reply
    client.body(bytes_body(letter.content).wire())
    if client.tap is not None:
        print(f"-> ({len(letter.content)} octets of message)", flush=True)
    client.send(b".")
    replies = [client.final_reply() for _ in range(len(accepted) if client.lmtp else 1)]
    if client.lmtp and len(accepted) > 1:
        letter.refused += [(rcpt, said) for rcpt, said in zip(accepted, replies, strict=True) if not said.positive]
    return max(replies, key=lambda reply: reply.code)


def _opening(client: SmtpClient, args: argparse.Namespace) -> Iterator[Reply]:
    yield client.greet()
    name = args.helo or socket.gethostname()
    yield client.hello(name)
    if args.tls:
        try:
            yield client.start_tls(_context(), None)
        except ssl.SSLError as error:  # it has answered, and not as TLS has it
            raise UpstreamLost("TLS handshake", error.strerror or str(error)) from None
        yield client.hello(name)
    if args.auth is not None:
        yield _login(client, args)
    if args.xclient is not None:
        yield client.command(f"XCLIENT {args.xclient}".encode())
        yield client.hello(name)


def _login(client: SmtpClient, args: argparse.Namespace) -> Reply:
    user = args.auth or getpass.getuser()
    password = args.password or os.environ.get("SMTPPROXY_PASSWORD") or getpass.getpass(f"password of {user}: ")
    return log_in(client, user, password)


# -- the connection --------------------------------------------------------------------------------------------------


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _server(args: argparse.Namespace) -> tuple[str, int]:
    """HOST, HOST:PORT, [IPv6] or [IPv6]:PORT, and a bare IPv6 address; --port wins. Raises ValueError."""
    host, colon, port = args.server.rpartition(":")
    if not colon or args.server.endswith("]") or (":" in host and not host.endswith("]")):
        host, port = args.server, ""
    if port and not port.isdecimal():
        raise ValueError(f"{args.server}: {port!r} is no port")
    return host.strip("[]"), args.port or int(port or PORT)


def _connect(host: str, port: int, timeout: float) -> Any:
    from smtpproxy.net.connection import connect

    failure = OSError(f"{host} has no address")
    for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            return connect((str(address[0]), int(address[1])), timeout)
        except OSError as error:
            failure = error
    raise failure


def _print(said: bytes | Reply) -> None:
    if isinstance(said, Reply):
        for line in bytes(said).decode("utf-8", "replace").splitlines():
            print(f"<- {line}", flush=True)
    else:
        print(f"-> {said.decode('utf-8', 'replace')}", flush=True)
