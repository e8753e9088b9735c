"""STARTTLS and what it asks for (RFC 3207), TLS from the first octet on (RFC 8314 3.3)."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from smtpproxy.net.connection import ConnectionLost, Expired
from smtpproxy.net.tls import facts
from smtpproxy.wire.command import Command
from smtpproxy.wire.order import State
from smtpproxy.wire.reply import Reply

if TYPE_CHECKING:
    from smtpproxy.session.session import Session

READY = Reply(220, "2.0.0", "Ready to start TLS")
ACTIVE = Reply(503, "5.5.1", "TLS is active already")
NOT_OFFERED = Reply(502, "5.5.1", "TLS is not offered here")
NO_ARGUMENT = Reply(501, "5.5.4", "Syntax: STARTTLS")
FIRST = Reply(530, "5.7.0", "Must issue a STARTTLS command first")

WITHOUT = frozenset(["EHLO", "HELO", "LHLO", "NOOP", "STARTTLS", "QUIT", "XCLIENT", "RSET", "HELP"])
"""What may be said before TLS where it is required (RFC 3207 4); nothing of it moves mail."""


def starttls(session: Session, command: Command) -> Reply | None:
    if not offered(session):
        return ACTIVE if session.client.tls is not None else NOT_OFFERED
    if command.octets:
        return NO_ARGUMENT
    chains = session.chains
    if chains.on_starttls and (refused := session.decide(chains.on_starttls, session.client)) is not None:
        return refused
    session.answer(READY)
    if shake_hands(session):
        session.offer = None
        session.client.helo = ""  # RFC 3207 4.2: what was learned before is forgotten
        session.client.login = session.logins = None
        session.state = State.CONNECTED
        session.watch("watch_starttls", session.client)
    return None


def offered(session: Session) -> bool:
    """TLS can begin now."""
    return session.entrance.tls is not None and session.client.tls is None


def missing(session: Session, verb: str) -> Reply | None:
    """The refusal of a command that must not be said in the clear here."""
    entrance, client = session.entrance, session.client
    if not entrance.tls_required or client.tls is not None or verb in WITHOUT or client.address in entrance.tls_exempt:
        return None
    return FIRST


def shake_hands(session: Session, hello: bytes = b"") -> bool:
    """Begin TLS; False, and the session is over, when that fails. ``hello``: what came of the client's handshake already."""
    connection, client, context = session.connection, session.client, session.entrance.tls
    assert context is not None
    timeouts = session.services.limits.timeouts
    timeout, connection.timeout = connection.timeout, timeouts.tls
    session.within(timeouts.tls)
    try:
        connection.start_tls(context, server_side=True, hello=hello)
    except (ssl.SSLError, ConnectionLost, Expired) as error:
        reason = getattr(error, "reason", None) or str(error) or "no answer in time"
        session.services.log("tls_failed", id=client.id, client=client.address, error=reason)
        session.trace.note(f"TLS failed: {reason}")
        session.closing = True
        session.ended = "tls"
        return False
    connection.timeout = timeout
    session.within(timeouts.greeting)
    assert connection.tls is not None
    client.tls = facts(connection.tls)
    session.trace.note(f"encrypted: {client.tls}")
    return True
