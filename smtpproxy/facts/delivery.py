"""A delivery: one attempt to hand a queued mail to the next server, as rules see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from smtpproxy.facts.missing import put
from smtpproxy.facts.notes import Noted, Notes, Results
from smtpproxy.facts.recipient import Recipient, Sender
from smtpproxy.wire.reply import Reply

NOTICE: Final = 64 << 10
"""Characters that a rule may write to a sender."""


class Delivery(Noted):
    """One mail, the recipients that this attempt is about, and what became of it."""

    __slots__ = ("_notice", "_notice_subject", "age", "attempts", "host", "id", "kind", "recipients", "reply", "sender")
    _noun = "delivery"
    _assignable: ClassVar[Mapping[str, tuple[type, ...]]] = {"notice": (), "notice_subject": ()}

    _notice: str | None
    _notice_subject: str | None
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
    kind: str
    """Of a refusal: "bad-mailbox", "full", "greylisted", "spam" and others; empty for what is none."""
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
        kind: str = "",
        attempts: int = 1,
        age: float = 0.0,
        notes: Notes | None = None,
        results: Results | None = None,
        bounced: bool = False,
    ) -> None:
        put(self, "id", id)
        put(self, "sender", sender)
        put(self, "recipients", recipients)
        put(self, "host", host)
        put(self, "reply", reply)
        put(self, "kind", kind)
        put(self, "attempts", attempts)
        put(self, "age", age)
        put(self, "_notes", notes)
        put(self, "_results", results)
        put(self, "_notice", "" if bounced else None)
        put(self, "_notice_subject", "" if bounced else None)

    @property
    def notice(self) -> str:
        """The text of the notice to the sender, at on_bounced; empty for that of the configuration."""
        return self._notice or ""

    @notice.setter
    def notice(self, text: str) -> None:
        self._word("notice", text)

    @property
    def notice_subject(self) -> str:
        """Its subject, likewise."""
        return self._notice_subject or ""

    @notice_subject.setter
    def notice_subject(self, text: str) -> None:
        self._word("notice_subject", text)

    def _word(self, name: str, text: object) -> None:
        if not isinstance(text, str) or len(text) > NOTICE:
            raise TypeError(f"delivery.{name} is a text of at most {NOTICE} characters")
        if getattr(self, f"_{name}") is None:
            raise TypeError(f"delivery.{name} can be said at on_bounced alone")
        put(self, f"_{name}", text)
