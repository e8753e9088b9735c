"""The Received line that we put on top of a message, and the count of those that are there (RFC 5321 4.4, 6.3)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9._:\[\]-]")
_NOT_IN_PATH = re.compile(r"[\x00-\x20\x7f<>]")
_NOT_IN_COMMENT = re.compile(r"[^\x20-\x7e]")
_SPECIAL_IN_COMMENT = re.compile(r"[()\\]")


def received_from(
    *, client_name: str | None, client_address: str, helo: str, hostname: str, protocol: str, tls: str | None = None
) -> str:
    """The beginning of the field, up to the id: the same for all messages of a session.

    ``helo`` and ``client_name`` come from strangers: what no name can hold becomes ``?``.  Without a HELO the address
    literal stands for it.  ``tls``: words for the comment behind the protocol.
    """
    literal = address_literal(client_address)
    helo = _NOT_IN_NAME.sub("?", helo) or literal
    peer = f"{_NOT_IN_NAME.sub('?', client_name)} {literal}" if client_name else literal
    comment = f" ({_comment(tls)})" if tls else ""
    return f"Received: from {helo} ({peer})\r\n\tby {hostname} with {protocol}{comment} id "


def received_line(origin: str, *, id: str, recipient: str | None, date: str) -> bytes:
    """The whole field, folded, with its CRLF; ``origin`` is what ``received_from`` gives.

    ``recipient`` is named only where there is one (more would reveal blind copies, RFC 5321 7.2).  ``date``: see
    ``smtp_date``.
    """
    last = f"\r\n\tfor <{_NOT_IN_PATH.sub('?', recipient)}>; {date}" if recipient else f";\r\n\t{date}"
    return f"{origin}{id}{last}\r\n".encode("utf-8", "surrogateescape")


def received_here(*, hostname: str, rule: str, id: str, date: str) -> bytes:
    """The whole field of a message that a rule has submitted: it has come from nowhere else."""
    return f"Received: by {hostname} ({_comment(f'smtpproxy, rule {rule}')}) id {id};\r\n\t{date}\r\n".encode()


def address_literal(address: str) -> str:
    """``[192.0.2.1]`` or ``[IPv6:2001:db8::1]`` (RFC 5321 4.1.3); without an address (a local socket) localhost."""
    if not address:
        return "localhost"
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def protocol_name(*, esmtp: bool, tls: bool = False, login: bool = False, utf8: bool = False, lmtp: bool = False) -> str:
    """The word behind "with": RFC 3848, and RFC 6531 4.3 for internationalised mail."""
    base = "LMTP" if lmtp else "SMTP"
    if utf8:
        base = f"UTF8{base}"
    elif esmtp and not lmtp:
        base = "ESMTP"
    elif not lmtp:
        return base
    return f"{base}{'S' if tls else ''}{'A' if login else ''}"


def smtp_date(timestamp: float, offset_minutes: int) -> str:
    """``Thu, 21 Nov 2024 10:05:00 +0100`` (RFC 5322 3.3), the same in every locale."""
    zone = UTC if not offset_minutes else timezone(timedelta(minutes=offset_minutes))
    moment = datetime.fromtimestamp(int(timestamp), zone)
    sign, minutes = ("-", -offset_minutes) if offset_minutes < 0 else ("+", offset_minutes)
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{day}, {moment.day} {month} {moment.year} {moment:%H:%M:%S} {sign}{minutes // 60:02d}{minutes % 60:02d}"


def count_received(header: bytes) -> int:
    """How many Received fields a raw header block holds: the loop guard (RFC 5321 6.3)."""
    return (b"\n" + header).lower().count(b"\nreceived:")


def _comment(text: str) -> str:
    return _SPECIAL_IN_COMMENT.sub(r"\\\g<0>", _NOT_IN_COMMENT.sub("?", text))
