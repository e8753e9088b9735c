"""Mail that comes once more because its client never heard our 250 (RFC 1047).

A client that is gone before it has said anything to the 250 may not have got it: what it had sent is remembered by envelope,
Message-ID and size. That costs nobody else anything; it is kept in the store, so that all processes know it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

from smtpproxy.stores.base import StoreError

if TYPE_CHECKING:
    from smtpproxy.session.session import Session

KEPT: Final = 3600.0
"""Seconds for which a mail is remembered."""

_MESSAGE_ID = re.compile(rb"^message-id[ \t]*:\s*(<[^<>\s]{1,998}>)", re.IGNORECASE | re.MULTILINE)


class Taken(NamedTuple):
    """A mail that was answered 250: `given` are sender and recipients as the client named them, `head` its header as it came,
    `size` its octets, `commands` how many the client had sent by then."""

    id: str
    given: Sequence[str]
    head: bytes
    size: int
    commands: int

    def key(self) -> str | None:
        """The same for a copy of it; None without a Message-ID."""
        found = _MESSAGE_ID.search(self.head)
        if found is None:
            return None
        words = [found[1].decode("latin-1"), str(self.size), self.given[0], *sorted(self.given[1:])]
        return "repeats/" + blake2b("\0".join(words).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def remember(session: Session) -> None:
    """The session ends: if the client has said nothing to its last 250, it may come again."""
    taken, store = session.taken, session.services.doors.get("store")
    if taken is None or store is None or taken.commands != session.commands or (key := taken.key()) is None:
        return
    with suppress(StoreError):  # then it is a mail like any other
        store.set(key, taken.id, KEPT)


def earlier(session: Session, taken: Taken) -> str | None:
    """The id of the mail that this one repeats. Raises StoreError."""
    store = session.services.doors.get("store")
    key = taken.key() if store is not None else None
    found = store.get(key) if store is not None and key is not None else None
    return str(found) if found else None
