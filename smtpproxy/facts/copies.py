"""A copy of a mail: what some of its recipients get, with edits of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smtpproxy.facts.content import Content
from smtpproxy.facts.missing import put
from smtpproxy.facts.recipient import Recipient
from smtpproxy.message.edits import Op

if TYPE_CHECKING:
    from smtpproxy.facts.mail import Mail


class Copy(Content):
    """What some recipients get instead of the mail: it begins with the edits that the mail has, and goes its own way."""

    __slots__ = ("_mail", "_shared", "name")
    _noun = "copy"
    name: str
    """By which rules find it again; "" when they gave it none."""
    _mail: Mail
    _shared: int

    def __init__(self, mail: Mail, name: str) -> None:
        super().__init__(mail.id)
        put(self, "_mail", mail)
        put(self, "_shared", 0)
        put(self, "name", name)

    @property
    def recipients(self) -> list[Recipient]:
        """Who gets it."""
        return [rcpt for rcpt in self._mail.recipients if rcpt.copy is self]

    @property
    def own_ops(self) -> tuple[Op, ...]:
        """The edits that the mail does not have."""
        return self.ledger.ops[self._shared :] if self.ledger is not None else ()

    def __str__(self) -> str:
        return f"for {', '.join(f'<{rcpt}>' for rcpt in self.recipients)}"

    def branched(self) -> None:
        """From now on the mail's edits are no longer its own, once the mail has any (the mail says so)."""
        ledger = self._mail.ledger
        if self.ledger is None and ledger is not None:
            self.arrived(ledger.branch(), self._mail.complete)
            put(self, "_shared", len(ledger.ops))

    def frozen(self, mail: Mail) -> Copy:
        """For those who look on: the copy of ``mail``, closed."""
        twin = Copy(mail, self.name)
        if self.ledger is not None:
            twin.arrived(self.ledger.branch(), self._complete)
            assert twin.ledger is not None
            twin.ledger.close()
            put(twin, "_shared", self._shared)
        return twin
