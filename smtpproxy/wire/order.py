"""The order of commands (RFC 5321 4.1.4).

A session is in one of four states. The session itself moves it; this table only says what may come next:

    CONNECTED --HELO/EHLO--> GREETED --MAIL--> MAIL --RCPT--> RCPT --DATA...dot--> GREETED
    RSET, HELO and EHLO lead from anywhere but CONNECTED back to GREETED; STARTTLS and XCLIENT to CONNECTED.

A row is a verb, a column a state; an empty cell allows, a reply refuses. Verbs without a row are always allowed here:
the session answers them with 500.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from smtpproxy.wire.reply import Reply


class State(IntEnum):
    """Where a session stands between two commands."""

    CONNECTED = 0
    GREETED = 1
    MAIL = 2
    RCPT = 3


_Row = tuple[Reply | None, Reply | None, Reply | None, Reply | None]

_GREET = Reply(503, "5.5.1", "Send HELO or EHLO first")
_NEED_MAIL = Reply(503, "5.5.1", "Need MAIL command first")
_NEED_RCPT = Reply(503, "5.5.1", "Need RCPT command with an accepted recipient first")
_NESTED = Reply(503, "5.5.1", "Nested MAIL command")
_INSIDE = Reply(503, "5.5.1", "Not allowed inside a mail transaction")

_ALWAYS: _Row = (None, None, None, None)
_OUTSIDE: _Row = (None, None, _INSIDE, _INSIDE)
_GREETED_OUTSIDE: _Row = (_GREET, None, _INSIDE, _INSIDE)

_TABLE: Mapping[str, _Row] = {
    #             CONNECTED   GREETED     MAIL        RCPT
    "HELO":       _ALWAYS,
    "EHLO":       _ALWAYS,
    "LHLO":       _ALWAYS,
    "MAIL":       (_GREET,    None,       _NESTED,    _NESTED),
    "RCPT":       (_GREET,    _NEED_MAIL, None,       None),
    "DATA":       (_GREET,    _NEED_MAIL, _NEED_RCPT, None),
    "BDAT":       (_GREET,    _NEED_MAIL, _NEED_RCPT, None),
    "RSET":       _ALWAYS,
    "NOOP":       _ALWAYS,
    "VRFY":       _ALWAYS,
    "EXPN":       _ALWAYS,
    "HELP":       _ALWAYS,
    "QUIT":       _ALWAYS,
    "STARTTLS":   _GREETED_OUTSIDE,
    "AUTH":       _GREETED_OUTSIDE,  # RFC 4954 4
    "XCLIENT":    _OUTSIDE,          # Postfix asks for no greeting before these two
    "XFORWARD":   _OUTSIDE,
    "ETRN":       _GREETED_OUTSIDE,
}  # fmt: skip


def refuse(verb: str, state: State) -> Reply | None:
    """The 503 that answers `verb` (upper case) in `state`, or None when the order allows it."""
    row = _TABLE.get(verb)
    return None if row is None else row[state]
