"""Every command there is, on one screen: verb, handler, and what the loop must know before it calls it.

When a verb is allowed stands in wire/order.py; which hook it runs, in its handler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from smtpproxy.session import chunks, data, encryption, greeting, login, transaction
from smtpproxy.wire.command import Command
from smtpproxy.wire.reply import Reply

if TYPE_CHECKING:
    from smtpproxy.session.session import Session


class Row(NamedTuple):
    """``junk``: does nothing for the mail, counted against [limits] junk_commands. ``begins``: not while draining.

    ``ordered``: wire/order.py says when; a command that is never there has no order. ``ends``: the transaction.
    ``refuse``: makes the answer where the loop refuses it, for a command that brings octets with it.
    """

    handler: Callable[[Session, Command], Reply | None]
    junk: bool = False
    begins: bool = False
    ordered: bool = True
    ends: bool = False
    refuse: Callable[[Session, Command, Reply], Reply | None] | None = None


COMMANDS: Mapping[str, Row] = {
    "HELO": Row(greeting.helo, ends=True),
    "EHLO": Row(greeting.ehlo, ends=True),
    "LHLO": Row(greeting.lhlo, ends=True),
    "MAIL": Row(transaction.mail, begins=True),
    "RCPT": Row(transaction.rcpt),
    "DATA": Row(data.data),
    "BDAT": Row(chunks.bdat, refuse=chunks.refuse),
    "RSET": Row(transaction.rset, junk=True, ends=True),
    "NOOP": Row(greeting.noop, junk=True),
    "VRFY": Row(greeting.vrfy, junk=True),
    "HELP": Row(greeting.help_, junk=True),
    "QUIT": Row(greeting.quit_, ends=True),
    "XCLIENT": Row(greeting.xclient),
    "XFORWARD": Row(greeting.xforward),
    "EXPN": Row(greeting.not_implemented, junk=True, ordered=False),
    "ETRN": Row(greeting.not_implemented, junk=True, ordered=False),
    "TURN": Row(greeting.not_implemented, junk=True, ordered=False),
    "STARTTLS": Row(encryption.starttls),
    "AUTH": Row(login.auth),
}

UNKNOWN = Row(greeting.unknown, ordered=False)
