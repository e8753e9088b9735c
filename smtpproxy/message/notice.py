"""A delivery status notification: what became of a mail, to its sender (RFC 3464 in a multipart/report, RFC 6522).

Mail that was sent with SMTPUTF8 is answered in the forms of RFC 6533, all other in seven bits but for what is given back whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from smtpproxy.message.header import HeaderBlock, format_field
from smtpproxy.message.transfer import encoded_text, to_quoted_printable

LINE: Final = 900
"""Octets of a field of ours, below the 998 of RFC 5322 2.1.1."""

Action = Literal["failed", "delayed", "delivered", "relayed"]
"""RFC 3464 2.3.3."""
_CLASSES: Final = {"failed": "45", "delayed": "4", "delivered": "2", "relayed": "2"}
"""Of the status codes that go with an action, the general one last."""

_STATUS = re.compile(r"\d{3} ([245])(\.\d{1,3}\.\d{1,3})(?: |$)")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,500}>")


class Fate(NamedTuple):
    """What became of a recipient.

    `reply` is the last about it ("550 5.1.1 No such user") and `mta` the name of the server that gave it, or "". `original` is
    the address that the sender wrote, with its type (RFC 3461 4.2), or "".
    """

    action: Action
    recipient: str
    reply: str
    mta: str = ""
    original: str = ""

    @property
    def status(self) -> str:
        """The enhanced code of the reply (RFC 3463) where it fits; the general one where there is none that does."""
        found, classes = _STATUS.match(self.reply), _CLASSES[self.action]
        return found[1] + found[2] if found and found[1] in classes else f"{classes[-1]}.0.0"


    def words(self) -> str:
        """For people, in two lines."""
        return f"<{_line(self.recipient)}>\n    {_line(self.reply)}\n"


class Returned(NamedTuple):
    """What is given back of the mail: its header, or all of it if that is `whole`."""

    content: bytes
    whole: bool = False

    @property
    def message_id(self) -> str:
        """Its Message-ID; "" where it has none that could be repeated."""
        for field in HeaderBlock.parse(self.content.partition(b"\r\n\r\n")[0]).fields:
            if field.key == "message-id" and _MESSAGE_ID.fullmatch(field.unfolded):
                return field.unfolded.decode("ascii")
        return ""


class Report(NamedTuple):
    """`id` is the notice's own and `mail` that of the mail, as the log has it. Dates are of ``smtp_date``: `arrival` of the
    mail, `until` when the last attempt is made for those that are delayed. `envid` is the sender's name of the transaction
    (RFC 3461 4.4), `subject` and `text` are for people."""

    id: str
    hostname: str
    sender: str
    date: str
    subject: str
    text: str
    mail: str
    arrival: str
    fates: Sequence[Fate]
    returned: Returned
    envid: str = ""
    until: str = ""
    utf8: bool = False

    def content(self) -> bytes:
        """The message."""
        boundary = f"{self.id}/{self.hostname}"
        parts = [self._words(), self._status(), self._given_back()]
        wide = any(encoding == "8bit" for _, encoding, _ in parts)
        mark = f"--{boundary}".encode()
        body = b"".join(
            b"%b\r\nContent-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b\r\n"
            % (mark, kind.encode(), encoding.encode(), octets)
            for kind, encoding, octets in parts
        )
        return self._head(boundary, "8bit" if wide else "7bit") + b"\r\n" + body + mark + b"--\r\n"

    def _head(self, boundary: str, encoding: str) -> bytes:
        answers = self.returned.message_id
        kind = f"multipart/report; report-type={self._kind('delivery-status').partition('/')[2]};"
        return b"".join(
            [
                _octets([f"From: Mail Delivery System <postmaster@{self.hostname}>", f"To: <{_line(self.sender)}>"]),
                format_field("Subject", _line(self.subject)),
                _octets([f"Date: {self.date}", f"Message-ID: <{self.id}@{self.hostname}>"]),
                _octets([f"References: {answers}"] if answers else []),
                _octets(["Auto-Submitted: auto-replied", "MIME-Version: 1.0"]),  # RFC 3834 5
                _octets([f"Content-Type: {kind}", f'\tboundary="{boundary}"', f"Content-Transfer-Encoding: {encoding}"]),
            ]
        )

    def _kind(self, name: str) -> str:
        return f"message/{'global-' if self.utf8 else ''}{name}"  # RFC 6533 4

    def _words(self) -> tuple[str, str, bytes]:
        octets = _octets([_CONTROLS.sub(" ", line) for line in self.text.splitlines()])
        encoding, written = encoded_text(octets, "8bit" if self.utf8 and not octets.isascii() else "7bit")
        return f"text/plain; charset={'us-ascii' if octets.isascii() else 'utf-8'}", encoding, written

    def _status(self) -> tuple[str, str, bytes]:
        fields = [f"Original-Envelope-Id: {_line(self.envid)}"] if self.envid else []
        fields += [f"Reporting-MTA: dns; {self.hostname}", f"Arrival-Date: {self.arrival}"]
        for fate in self.fates:
            fields += ["", *self._about(fate)]
        charset, encoding = ("utf-8", "8bit") if self.utf8 else ("ascii", "7bit")
        return self._kind("delivery-status"), encoding, _octets(fields, charset)

    def _about(self, fate: Fate) -> list[str]:
        kind = "rfc822" if fate.recipient.isascii() else "utf-8"
        fields = [f"Original-Recipient: {_line(fate.original)}"] if fate.original else []
        fields += [f"Final-Recipient: {kind}; {_line(fate.recipient)}", f"Action: {fate.action}", f"Status: {fate.status}"]
        if fate.mta:
            fields += [f"Remote-MTA: dns; {_line(fate.mta)}", f"Diagnostic-Code: smtp; {_line(fate.reply)}"]
        fields += [f"Last-Attempt-Date: {self.date}", f"Final-Log-ID: {self.mail}"]
        if fate.action == "delayed":
            fields.append(f"Will-Retry-Until: {self.until}")
        return fields

    def _given_back(self) -> tuple[str, str, bytes]:
        content = self.returned.content
        encoding = "7bit" if content.isascii() else "8bit"
        if self.returned.whole:
            return "message/global" if self.utf8 else "message/rfc822", encoding, content
        if self.utf8:
            return self._kind("headers"), encoding, content
        if encoding == "8bit":  # RFC 6522 4: encoded, any server takes the notice
            return "text/rfc822-headers", "quoted-printable", to_quoted_printable(content)
        return "text/rfc822-headers", encoding, content


def _octets(lines: Sequence[str], charset: str = "utf-8") -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode(charset, "replace")


def _line(text: str) -> str:
    """What a peer has said, within one line."""
    return _CONTROLS.sub(" ", text)[:LINE]
