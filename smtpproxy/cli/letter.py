"""The message that `smtpproxy send` sends: a whole file as it is, or made from the words of the command line."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from smtpproxy.message.header import format_field
from smtpproxy.message.rendering import with_crlf
from smtpproxy.message.trace import smtp_date


def message(args: argparse.Namespace, sender: str, recipients: Sequence[str]) -> bytes:
    """The message in content form, its lines ended by CRLF. Raises ValueError, OSError."""
    if args.data is not None:
        return with_crlf(_octets(args.data))
    body = _body(args.body)
    own = [(name.strip(), value.strip()) for name, value in map(_split, args.header)]
    given = {name.lower() for name, _ in own}
    usual = [pair for pair in _usual(args.subject, sender, recipients, body) if pair[0].lower() not in given]
    header = b"".join(format_field(name, value) for name, value in (*usual, *own))
    return header + b"\r\n" + with_crlf(body)


def _usual(subject: str, sender: str, recipients: Sequence[str], body: bytes) -> list[tuple[str, str]]:
    now = time.time()
    fields = [
        ("Date", smtp_date(now, (time.localtime(now).tm_gmtoff or 0) // 60)),
        ("From", sender or "MAILER-DAEMON"),
        ("To", ", ".join(recipients)),
        ("Subject", subject),
        ("Message-Id", f"<{now:.6f}.{os.getpid()}@{socket.gethostname()}>"),
    ]
    if not body.isascii():
        fields += [
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Transfer-Encoding", "8bit"),
        ]
    return fields


def _split(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise ValueError(f"a header is written as 'NAME: VALUE', not {line!r}")
    return name, value


def _body(text: str) -> bytes:
    if text.startswith("@"):
        return Path(text[1:]).read_bytes()
    return text.replace("\\n", "\n").encode("utf-8", "surrogateescape")


def _octets(file: str) -> bytes:
    return sys.stdin.buffer.read() if file == "-" else Path(file.removeprefix("@")).read_bytes()
