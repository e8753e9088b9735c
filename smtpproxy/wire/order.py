"""The order of commands (RFC 5321 4.1.4).

A session is in one of six states. The session itself moves it; this table only says what may come next:

    CONNECTED --HELO/EHLO--> GREETED --MAIL--> MAIL --RCPT--> RCPT --DATA...dot--> GREETED
    RCPT --BDAT n--> CHUNKS --BDAT n LAST--> GREETED; a chunk that is refused leads to FAILED until the last one (RFC 3030 2)
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
    CHUNKS = 4
    FAILED = 5


_Row = tuple[Reply | None, ...]

_GREET = Reply(503, "5.5.1", "Send HELO or EHLO first")
_NEED_MAIL = Reply(503, "5.5.1", "Need MAIL command first")
_NEED_RCPT = Reply(503, "5.5.1", "Need RCPT command with an accepted recipient first")
_NESTED = Reply(503, "5.5.1", "Nested MAIL command")
_INSIDE = Reply(503, "5.5.1", "Not allowed inside a mail transaction")
_CHUNKS = Reply(503, "5.5.1", "Need BDAT until its LAST, or RSET")
_FAILED = Reply(503, "5.5.1", "A part of the message was refused; send RSET")

_ALWAYS: _Row = (None, None, None, None, None, None)
_OUTSIDE: _Row = (None, None, _INSIDE, _INSIDE, _INSIDE, _INSIDE)
_GREETED_OUTSIDE: _Row = (_GREET, None, _INSIDE, _INSIDE, _INSIDE, _INSIDE)

_TABLE: Mapping[str, _Row] = {
    #             CONNECTED   GREETED     MAIL        RCPT        CHUNKS      FAILED
    "HELO":       _ALWAYS,
    "EHLO":       _ALWAYS,
    "LHLO":       _ALWAYS,
    "MAIL":       (_GREET,    None,       _NESTED,    _NESTED,    _NESTED,    _FAILED),
    "RCPT":       (_GREET,    _NEED_MAIL, None,       None,       _CHUNKS,    _FAILED),
    "DATA":       (_GREET,    _NEED_MAIL, _NEED_RCPT, None,       _CHUNKS,    _FAILED),
    "BDAT":       (_GREET,    _NEED_MAIL, _NEED_RCPT, None,       None,       _FAILED),
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


def is_verb(word: str) -> bool:
    """Whether this is the name of a command (in upper case)."""
    return word in _TABLE
