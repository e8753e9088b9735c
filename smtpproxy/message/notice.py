"""The notice that a mail could not be delivered (RFC 3464 in a multipart/report, RFC 6522)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

LINE: Final = 900
"""Octets of a field of ours, below the 998 of RFC 5322 2.1.1."""

_STATUS = re.compile(r"\d{3} ([45]\.\d{1,3}\.\d{1,3})(?: |$)")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")


class Failure(NamedTuple):
    """A recipient with the last reply about it ("550 5.1.1 No such user") and the server that gave it, or ""."""

    recipient: str
    reply: str
    host: str = ""

    @property
    def status(self) -> str:
        """The enhanced code of the reply (RFC 3463); the general one of a failure where it has none."""
        found = _STATUS.match(self.reply)
        return found[1] if found else "5.0.0"


def failure_notice(
    *, id: str, hostname: str, sender: str, date: str, arrival: str, failures: Sequence[Failure], header: bytes
) -> bytes:
    """The message, to `sender`. `id` is the notice's own, `date` and `arrival` are of ``smtp_date``, `header` is that of the
    mail, which is given back with it (RFC 3464 2, text/rfc822-headers)."""
    boundary = f"{id}/{hostname}"
    utf8 = not (sender + "".join(failure.recipient for failure in failures)).isascii() or not header.isascii()
    kind, encoding = ("global-", "8bit") if utf8 else ("", "7bit")  # RFC 6533 4
    head = [
        f"From: Mail Delivery System <MAILER-DAEMON@{hostname}>", f"To: <{_line(sender)}>",
        "Subject: Mail could not be delivered", f"Date: {date}", f"Message-ID: <{id}@{hostname}>",
        "Auto-Submitted: auto-replied", "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type={kind}delivery-status;\r\n\tboundary="{boundary}"',
        f"Content-Transfer-Encoding: {encoding}", "",
    ]  # fmt: skip
    words = ["Your mail could not be delivered to these recipients:", ""]
    for failure in failures:
        words += [f"<{_line(failure.recipient)}>", f"    {_line(failure.reply)}", ""]
    status = [f"Reporting-MTA: dns; {hostname}", f"Arrival-Date: {arrival}", ""]
    for failure in failures:
        status += _status_fields(failure)
    given_back = "message/global-headers" if utf8 else "text/rfc822-headers"
    parts = (
        (f"text/plain; charset={'utf-8' if utf8 else 'us-ascii'}", _octets(words)),
        (f"message/{kind}delivery-status", _octets(status)),
        (given_back, header if header.endswith(b"\r\n") else header + b"\r\n"),
    )
    mark = f"--{boundary}".encode()
    body = b"".join(
        b"%b\r\nContent-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b\r\n" % (mark, type.encode(), encoding.encode(), part)
        for type, part in parts
    )
    return _octets(head) + b"\r\n" + body + mark + b"--\r\n"


def _status_fields(failure: Failure) -> list[str]:
    kind = "rfc822" if failure.recipient.isascii() else "utf-8"
    fields = [f"Final-Recipient: {kind}; {_line(failure.recipient)}", "Action: failed", f"Status: {failure.status}"]
    if failure.host:
        fields.append(f"Remote-MTA: dns; {_line(failure.host)}")
        fields.append(f"Diagnostic-Code: smtp; {_line(failure.reply)}")
    return [*fields, ""]


def _octets(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "replace")


def _line(text: str) -> str:
    """What a peer has said, within one line."""
    return _CONTROLS.sub(" ", text)[:LINE]
