"""The contract between the session and whatever takes the mail.

A session opens a hand-off once and uses it for any number of transactions, each of them

    begin(mail) -> recipient(mail, rcpt) ... -> finish(mail, body) -> commit()
                        at any point: abandon()
    in the end: close()

The promises:

1. ``begin`` makes ready for ``mail`` (its sender and parameters). It may answer None: the answer is not known yet and the
   first ``recipient`` answers for both. A refusal is a reply, never an exception.
2. ``recipient`` answers for that recipient alone.
3. ``finish`` takes the message by *pulling* ``body.wire()`` or ``body.content()``. A live hand-off's positive reply means
   that the next server is responsible now; a durable one's, that the message is synced to disk, but *held*.
   Where the client is told of each recipient (an LMTP listener), a live hand-off that learns of each sets ``rcpt.reply``;
   its answer is positive then if any of them is.
4. ``commit`` releases what a durable hand-off holds; for a live one there is nothing left to do. Nothing is delivered
   without it.
5. ``abandon`` undoes everything since ``begin``; afterwards nothing of this transaction will ever be delivered, unless a
   live ``finish`` had already answered. It may be called at any time, and twice.

What ``body`` raises while it is pulled (the client is gone, the message is refused midstream) passes through ``finish``
after the hand-off has made sure that no part of the message counts as complete.
"""

from __future__ import annotations

import errno
from typing import Final, Protocol

from smtpproxy.facts.client import Client
from smtpproxy.facts.mail import Mail
from smtpproxy.facts.recipient import Recipient
from smtpproxy.message.body import Body
from smtpproxy.wire.extensions import Extensions
from smtpproxy.wire.reply import Reply


class Handoff(Protocol):
    """One session's use of a way out."""

    @property
    def via(self) -> str:
        """Who took the last message, for the log: the upstream's address, or the name of the hand-off."""

    def begin(self, mail: Mail) -> Reply | None: ...

    def recipient(self, mail: Mail, rcpt: Recipient) -> Reply: ...

    def finish(self, mail: Mail, body: Body) -> Reply: ...

    def commit(self) -> None: ...

    def abandon(self) -> None: ...

    def close(self) -> None: ...


class Outlet(Protocol):
    """A configured way out, [handoff.NAME]: opens one ``Handoff`` per session."""

    name: str
    live: bool
    """Live: the next server answers while the client waits. Otherwise durable: held on disk until ``commit``."""
    whole: bool
    """The message must have come to its end before ``finish``: a client that is slow or leaves costs the server nothing."""

    def announced(self) -> Extensions | None:
        """What it can carry, as an EHLO answer; None when that was never learned."""

    def open(self, client: Client) -> Handoff: ...


OK = Reply(250, "2.1.5", "Ok")
"""The answer of hand-offs that take any recipient."""

FULL: Final = Reply(452, "4.3.1", "Not enough room for the message now")
NOT_KEPT: Final = Reply(451, "4.3.0", "The message cannot be kept now")


def not_kept(error: OSError) -> Reply:
    """The answer when the disk does not take a message: whether it is full or broken (RFC 5321 4.2.2, RFC 3463 3.4)."""
    return FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else NOT_KEPT
