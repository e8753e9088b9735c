"""Transfer encodings (RFC 2045 6): decoded as a stream, chosen and applied to what a rule puts into a message."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from smtpproxy.message.mime import IDENTITY
from smtpproxy.message.rendering import with_crlf

KNOWN = IDENTITY | {"base64", "quoted-printable"}

_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
_LONG_LINE = re.compile(rb"[^\r\n]{998}")
_BASE64_LINE = 76


def decoded(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """The octets that were meant; of an encoding that nobody knows, those that are there.  Never fails."""
    if encoding == "base64":
        return _base64(chunks)
    return _quoted_printable(chunks) if encoding == "quoted-printable" else chunks


def _base64(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """What is not of the alphabet is skipped; "=" is the end of the data (RFC 2045 6.8)."""
    rest = b""
    for chunk in chunks:
        data = rest + chunk.translate(None, _NOT_BASE64)
        data, padding, _ = data.partition(b"=")
        cut = len(data) // 4 * 4
        if cut:
            yield binascii.a2b_base64(data[:cut])
        rest = data[cut:]
        if padding:
            break
    if len(rest) > 1:
        yield binascii.a2b_base64(rest + b"=" * (4 - len(rest)))


def _quoted_printable(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        data = rest + chunk
        cut = data.rfind(b"\n") + 1
        if not cut and len(data) > 4096:
            # No line is that long (RFC 2045 6.7 (5)); what counts is not to cut "=3D" in two.
            cut = len(data) - 2 + data[-2:].find(b"=") if b"=" in data[-2:] else len(data)
        if cut:
            yield binascii.a2b_qp(data[:cut])
        rest = data[cut:]
    if rest:
        yield binascii.a2b_qp(rest)


def encoded_text(octets: bytes, encoding: str) -> tuple[str, bytes]:
    """Text in a transfer encoding: the one it had if that can carry it, else one of 7 bits that can."""
    octets = octets if b"\0" in octets else with_crlf(octets)
    if encoding == "base64" or b"\0" in octets:
        return "base64", to_base64(octets)
    fits = octets.isascii() or encoding in ("8bit", "binary")
    if encoding in IDENTITY and fits and not _LONG_LINE.search(octets):
        return encoding or "7bit", octets
    quoted = to_quoted_printable(octets)
    if encoding != "quoted-printable" and len(quoted) > len(octets) * 3 // 2:
        return "base64", to_base64(octets)
    return "quoted-printable", quoted


def to_base64(octets: bytes) -> bytes:
    """Lines of 76 characters; the last one has no line end."""
    text = base64.b64encode(octets)
    return b"\r\n".join(text[at : at + _BASE64_LINE] for at in range(0, len(text), _BASE64_LINE))


def to_quoted_printable(octets: bytes) -> bytes:
    """Text with CRLF line ends in lines of 76 characters."""
    lines = octets.split(b"\r\n")
    return b"\r\n".join(binascii.b2a_qp(line).replace(b"=\n", b"=\r\n") for line in lines)
