"""What a mail needs of the next server, and the MAIL command that says so: nothing is stripped silently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from smtpproxy.wire.extensions import Extensions
from smtpproxy.wire.reply import Reply


class Party(Protocol):
    """An address of an envelope, with its ESMTP parameters."""

    @property
    def path(self) -> str: ...
    @property
    def params(self) -> Mapping[str, str | None]: ...


class Mail(Protocol):
    """What an envelope says: facts/mail.py, or a mail in the queue."""

    @property
    def sender(self) -> Party: ...
    @property
    def params(self) -> Mapping[str, str | None]: ...
    @property
    def size_declared(self) -> int | None: ...
    @property
    def smtputf8(self) -> bool: ...
    @property
    def body8bit(self) -> bool: ...
    @property
    def binary(self) -> bool: ...


NO_UTF8 = Reply(550, "5.6.7", "The next server takes no internationalized mail")
NO_8BIT = Reply(554, "5.6.3", "The next server takes no 8-bit mail")
NO_BINARY = Reply(554, "5.6.3", "The next server takes no binary mail")
TOO_BIG = Reply(552, "5.3.4", "The message is larger than the next server takes")
NO_HOLD = Reply(555, "5.5.4", "The next server holds no mail back")
NO_DELIVERBY = Reply(555, "5.3.3", "The next server does not promise to deliver in time")
NO_REQUIRETLS = Reply(550, "5.7.30", "REQUIRETLS support required")


def unmet(mail: Mail, offered: Extensions, final: bool = False) -> Reply | None:
    """The refusal of what ``mail`` uses and the server does not offer, None if it can go there as it is.

    `final`: what it takes is in the mailbox.
    """
    if mail.smtputf8 and "SMTPUTF8" not in offered:
        return NO_UTF8
    if mail.body8bit and "8BITMIME" not in offered:
        return NO_8BIT
    if mail.binary and not ("BINARYMIME" in offered and "CHUNKING" in offered):
        return NO_BINARY
    params = mail.params
    if "REQUIRETLS" in params and "REQUIRETLS" not in offered and mail.sender.path:
        return NO_REQUIRETLS  # RFC 8689 4.2.1; notices are not lost for it, 5
    if "FUTURERELEASE" not in offered and ("HOLDFOR" in params or "HOLDUNTIL" in params):
        return NO_HOLD
    if "DELIVERBY" not in offered and not final and ";R" in (params.get("BY") or "").upper():
        return NO_DELIVERBY  # RFC 2852 4.1.4
    if mail.size_declared and offered.size and mail.size_declared > offered.size:
        return TOO_BIG
    return None


def mail_command(mail: Mail, offered: Extensions) -> bytes:
    """MAIL for a server that offers ``offered``; sizes and 7BIT are hints that a server without them can do without."""
    line = b"MAIL FROM:<" + mail.sender.path.encode("utf-8", "surrogateescape") + b">"
    if mail.size_declared and "SIZE" in offered:
        line += b" SIZE=%d" % mail.size_declared
    if ("8BITMIME" in offered or mail.binary) and (body := mail.params.get("BODY")):
        line += b" BODY=" + body.encode("ascii")
    if mail.smtputf8:
        line += b" SMTPUTF8"
    params = mail.params
    if "REQUIRETLS" in params and "REQUIRETLS" in offered:
        line += b" REQUIRETLS"
    return line + b"".join(_kept(params, names) for keyword, names in _HANDED_ON if params and keyword in offered)


def unkept(rcpt: Party, offered: Extensions) -> Reply | None:
    """The refusal of a recipient for whom notices are asked that the server would not send, or would send (RFC 3461 5.2.2).

    What asks for nothing but the usual, a notice of failure, can do without DSN; so can ORCPT, RET and ENVID.
    """
    notify = (rcpt.params.get("NOTIFY") or "").upper()
    if "DSN" in offered or not (notify == "NEVER" or "SUCCESS" in notify):
        return None
    return Reply(555, "5.5.4", f"The next server does not know NOTIFY={notify}")


def rcpt_command(rcpt: Party, offered: Extensions) -> bytes:
    """RCPT for a server that offers ``offered``; NOTIFY and ORCPT as they came."""
    line = b"RCPT TO:<" + rcpt.path.encode("utf-8", "surrogateescape") + b">"
    return line + _kept(rcpt.params, ("NOTIFY", "ORCPT")) if rcpt.params and "DSN" in offered else line


_HANDED_ON = (
    ("DSN", ("RET", "ENVID")),
    ("FUTURERELEASE", ("HOLDFOR", "HOLDUNTIL")),
    ("DELIVERBY", ("BY",)),
    ("MT-PRIORITY", ("MT-PRIORITY",)),
)
"""Parameters of MAIL that go on as they came, to a server that offers the extension."""


def _kept(params: Mapping[str, str | None], names: tuple[str, ...]) -> bytes:
    return b"".join(f" {name}={params[name]}".encode() for name in names if params.get(name))
