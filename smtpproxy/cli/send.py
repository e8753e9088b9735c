"""`smtpproxy send`: a test client. Sends one message, prints the dialogue, exits 0 only for a final 2xx."""

from __future__ import annotations

import argparse
import getpass
import os
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smtpproxy.delivery.smtp import SmtpClient, Timeouts, UpstreamLost
from smtpproxy.message.body import bytes_body
from smtpproxy.message.header import format_field
from smtpproxy.message.rendering import with_crlf
from smtpproxy.message.trace import smtp_date
from smtpproxy.wire.address import AddressError, parse_address
from smtpproxy.wire.reply import Reply

BODY = "This is a test message.\n"


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("send", help="send a message", description=__doc__)
    option = parser.add_argument
    option("-f", "--from", dest="sender", default="sender@example.com", metavar="ADDRESS", help='"" for the null sender')
    option("-t", "--to", action="append", metavar="ADDRESS", help="a recipient, or several with commas; may be repeated")
    option("-s", "--server", default="127.0.0.1", metavar="HOST[:PORT]", help="default 127.0.0.1")
    option("-p", "--port", type=int, metavar="PORT", help="default 2525")
    option("--ehlo", "--helo", dest="helo", default="", metavar="NAME", help="default: this machine's name")
    option("--subject", default="test from smtpproxy send")
    option("--header", "--add-header", action="append", default=[], metavar="'NAME: VALUE'", help="may be repeated")
    option("--body", default=BODY, metavar="TEXT", help="@FILE reads it from a file")
    option("--data", "--file", dest="data", metavar="FILE", help="a whole message, sent as it is; - for standard input")
    option("--tls", "-tls", action="store_true", help="STARTTLS, without looking at the certificate's name")
    option("--auth", nargs="?", const="", metavar="USER", help="log in; the password is asked for, or comes with --password")
    option("--password", metavar="PASSWORD", help="also from the environment: SMTPPROXY_PASSWORD")
    option("--lmtp", action="store_true", help="speak LMTP")
    option("--timeout", type=float, default=60.0, metavar="SECONDS")
    option("-q", "--quiet", action="store_true", help="print the final reply only")


def run(args: argparse.Namespace) -> int:
    try:
        recipients = [part.strip() for word in args.to or ["postmaster@example.com"] for part in word.split(",")]
        paths = [parse_address(recipient).path for recipient in recipients]
        sender = parse_address(args.sender).path if args.sender else ""
        message = _message(args, sender, recipients)
    except (AddressError, OSError, ValueError) as error:
        print(f"smtpproxy send: {error}", file=sys.stderr)
        return 2
    try:
        client = SmtpClient(_connect(args), Timeouts(*[args.timeout] * 6), args.lmtp)
        if not args.quiet:
            client.tap = _print
        reply = _converse(client, args, sender, paths, message)
        client.quit()
    except (UpstreamLost, OSError) as error:
        print(f"smtpproxy send: {error}", file=sys.stderr)
        return 1
    print(f"final reply: {reply}" if not args.quiet else reply)
    return 0 if 200 <= reply.code < 300 else 1


def _converse(client: SmtpClient, args: argparse.Namespace, sender: str, paths: list[str], message: bytes) -> Reply:
    """The dialogue up to the reply that decides; a refusal ends it."""
    for reply in _opening(client, args):
        if not reply.positive:
            return reply
    utf8 = not all(path.isascii() for path in (sender, *paths))
    parameters = (b" SIZE=%d" % len(message) if "SIZE" in client.extensions else b"") + (b" SMTPUTF8" if utf8 else b"")
    reply = client.command(b"MAIL FROM:<" + sender.encode() + b">" + parameters)
    accepted = 0
    for path in paths:
        if reply.positive or accepted:
            reply = client.command(b"RCPT TO:<" + path.encode() + b">")
            accepted += reply.positive
    if not accepted:
        return reply
    refused = reply
    reply = client.data()
    if reply.code != 354:
        return reply
    client.body(bytes_body(message).wire())
    client.send(b".")
    replies = [client.final_reply() for _ in range(accepted if client.lmtp else 1)]
    worst = max(replies, key=lambda reply: reply.code)
    return worst if accepted == len(paths) else refused if not refused.positive else worst


def _opening(client: SmtpClient, args: argparse.Namespace) -> Iterator[Reply]:
    yield client.greet()
    name = args.helo or socket.gethostname()
    yield client.hello(name)
    if args.tls:
        yield client.start_tls(_context(), None)
        yield client.hello(name)
    if args.auth is not None:
        user = args.auth or getpass.getuser()
        password = args.password or os.environ.get("SMTPPROXY_PASSWORD") or getpass.getpass(f"password of {user}: ")
        tap, client.tap = client.tap, None  # credentials are not printed
        reply = client.login(user, password)
        client.tap = tap
        if tap is not None:
            tap(b"AUTH ...")
            tap(reply)
        yield reply


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _connect(args: argparse.Namespace) -> Any:
    from smtpproxy.net.connection import connect

    host, _, port = args.server.rpartition(":") if ":" in args.server and not args.server.endswith("]") else (args.server, "", "")
    number = args.port or int(port or 2525)
    address = socket.getaddrinfo(host.strip("[]"), number, type=socket.SOCK_STREAM)[0][4][0]
    return connect((str(address), number), args.timeout)


def _message(args: argparse.Namespace, sender: str, recipients: list[str]) -> bytes:
    if args.data is not None:
        return with_crlf(sys.stdin.buffer.read() if args.data == "-" else Path(args.data).read_bytes())
    now = time.time()
    given = [line.partition(":") for line in args.header]
    if any(not colon for _, colon, _ in given):
        raise ValueError("a header is written as 'NAME: VALUE'")
    fields = {
        "Date": smtp_date(now, (time.localtime(now).tm_gmtoff or 0) // 60),
        "From": sender or "MAILER-DAEMON",
        "To": ", ".join(recipients),
        "Subject": args.subject,
        "Message-Id": f"<{now:.6f}.{os.getpid()}@{socket.gethostname()}>",
    }
    named = {name.strip().lower() for name, _, _ in given}
    own = [format_field(name, value) for name, value in fields.items() if name.lower() not in named]
    header = b"".join([*own, *[format_field(name.strip(), value.strip()) for name, _, value in given]])
    body = Path(args.body[1:]).read_bytes() if args.body.startswith("@") else args.body.replace("\\n", "\n").encode()
    return header + b"\r\n" + with_crlf(body)


def _print(said: bytes | Reply) -> None:
    if isinstance(said, Reply):
        for line in bytes(said).decode("utf-8", "replace").splitlines():
            print(f"<- {line}", flush=True)
    else:
        print(f"-> {said.decode('utf-8', 'replace')}", flush=True)
