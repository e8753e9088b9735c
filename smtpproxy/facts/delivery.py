"""A delivery: one attempt to hand a queued mail to the next server, as rules see it."""

from __future__ import annotations

from collections.abc import Sequence

from smtpproxy.facts.missing import put
from smtpproxy.facts.notes import Noted, Notes, Results
from smtpproxy.facts.recipient import Recipient, Sender
from smtpproxy.wire.reply import Reply


class Delivery(Noted):
    """One mail, the recipients that this attempt is about, and what became of it."""

    __slots__ = ("age", "attempts", "host", "id", "recipients", "reply", "sender")
    _noun = "delivery"

    id: str
    """Of the mail."""
    sender: Sender
    """Of the envelope."""
    recipients: Sequence[Recipient]
    """Those that this attempt is about."""
    host: str
    """The server that answered, by name; empty while none has."""
    reply: Reply | None
    """Its answer; None while there is none."""
    attempts: int
    """This one included."""
    age: float
    """Seconds since the mail was taken."""

    def __init__(
        self,
        id: str,
        sender: Sender,
        recipients: Sequence[Recipient],
        *,
        host: str = "",
        reply: Reply | None = None,
        attempts: int = 1,
        age: float = 0.0,
        notes: Notes | None = None,
        results: Results | None = None,
    ) -> None:
        put(self, "id", id)
        put(self, "sender", sender)
        put(self, "recipients", recipients)
        put(self, "host", host)
        put(self, "reply", reply)
        put(self, "attempts", attempts)
        put(self, "age", age)
        put(self, "_notes", notes)
        put(self, "_results", results)
