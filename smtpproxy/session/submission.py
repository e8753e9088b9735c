"""Message submission (RFC 6409): what a server does for mail programs that it would never do for another server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smtpproxy.facts.client import Client
from smtpproxy.message.edits import Ledger
from smtpproxy.session.login import LOG_IN
from smtpproxy.wire.address import Address
from smtpproxy.wire.reply import Reply

if TYPE_CHECKING:
    from smtpproxy.session.session import Session


def complete(session: Session, ledger: Ledger, id: str) -> None:
    """Date and Message-ID where the message has none (RFC 6409 8.2, 8.3): before rules and signers see it."""
    names = {field.key for field in ledger.fields}
    if "date" not in names:
        ledger.add_field("Date", session.services.clock.date())
    if "message-id" not in names:
        ledger.add_field("Message-ID", f"<{id}@{session.entrance.hostname}>")


def unwelcome(client: Client, sender: Address) -> Reply | None:
    """The refusal of MAIL by somebody nobody knows (RFC 6409 4.3), or of its domain."""
    if client.login is None and not (client.trusted or client.relay):
        return LOG_IN
    return unqualified(sender, "5.1.8")


def unqualified(address: Address, enhanced: str) -> Reply | None:
    """The refusal of a domain that means something to the sender's own network only (RFC 6409 4.2)."""
    domain = address.domain
    if not domain or "." in domain or domain.startswith("["):
        return None
    return Reply(554, enhanced, f"<{address}>: the domain is not fully qualified")
