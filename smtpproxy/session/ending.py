"""How a session ends: what a client is told that takes too long, and the session's line in the log."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from gevent import Timeout

from smtpproxy.net.connection import Expired
from smtpproxy.session.pace import TooSlow
from smtpproxy.wire.reply import Reply

if TYPE_CHECKING:
    from smtpproxy.session.session import Session

TIMEOUT = Reply(421, "4.4.2", "Timeout, closing connection")
TOO_SLOW = Reply(421, "4.4.2", "The message comes too slowly, closing connection")
TOO_LONG = Reply(421, "4.4.2", "You have taken too long, closing connection")

QUIT = "quit"
LOST = "lost"


def first_octets(session: Session) -> bytes:
    """What the client says first."""
    while True:
        try:
            return session.connection.take()
        except Timeout as late:
            left_behind(session, late)


def left_behind(session: Session, late: Timeout) -> None:
    """gevent's: a rule has set it and not cancelled it, and now it goes off while the session waits for its client."""
    session.services.log("timeout_left_behind", level="warning", id=session.call.id, error=str(late))


def too_late(session: Session, expired: Expired) -> Reply:
    """The answer to a wait that was in vain; where a mail is lost by it, that is a refusal like others."""
    overdue = session.connection.overdue
    reply = TOO_SLOW if isinstance(expired, TooSlow) else TOO_LONG if overdue else TIMEOUT
    if session.transaction is not None:
        session.refused(reply, str(expired))
    return reply


def log(session: Session) -> None:
    """One line for the session: who, what, and how it ended (quit, lost, or the reply that was the last word)."""
    client, connection = session.client, session.connection
    ended = session.ended or LOST
    if ended == LOST and not session.commands and client.connected_address in session.entrance.proxy_from:
        return  # a balancer that looks whether we are there
    fields: dict[str, object] = {"id": client.id, "client": client.address, "listener": session.entrance.facts.name}
    if client.helo:
        fields["helo"] = client.helo
    if client.tls is not None:
        fields["tls"] = client.tls.version
    if client.login is not None:
        fields["login"] = str(client.login)
    fields["commands"] = session.commands
    fields["mails"] = client.mails
    fields["refused"] = client.errors
    fields["octets_in"] = connection.octets_in
    fields["octets_out"] = connection.octets_out
    fields["ms"] = int((monotonic() - session.trace.started) * 10_000) / 10
    session.services.log("session", **fields, end=ended)
