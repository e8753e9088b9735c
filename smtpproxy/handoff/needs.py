"""What a mail needs of the next server, and the MAIL command that says so: nothing is stripped silently."""

from __future__ import annotations

from smtpproxy.facts.mail import Mail
from smtpproxy.wire.extensions import Extensions
from smtpproxy.wire.reply import Reply

NO_UTF8 = Reply(550, "5.6.7", "The next server takes no internationalized mail")
NO_8BIT = Reply(554, "5.6.3", "The next server takes no 8-bit mail")
NO_BINARY = Reply(554, "5.6.3", "The next server takes no binary mail")
TOO_BIG = Reply(552, "5.3.4", "The message is larger than the next server takes")


def unmet(mail: Mail, offered: Extensions) -> Reply | None:
    """The refusal of what ``mail`` uses and the server does not offer, None if it can go there as it is."""
    if mail.smtputf8 and "SMTPUTF8" not in offered:
        return NO_UTF8
    if mail.body8bit and "8BITMIME" not in offered:
        return NO_8BIT
    if mail.binary and not ("BINARYMIME" in offered and "CHUNKING" in offered):
        return NO_BINARY
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
    return line
