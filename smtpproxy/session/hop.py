"""A balancer in front of us: the PROXY header that begins its connections, before TLS and before the greeting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smtpproxy.facts.client import Client
from smtpproxy.facts.tls import Certificate, Tls
from smtpproxy.net.connection import ConnectionLost, Expired
from smtpproxy.wire.proxyheader import AUTHORITY, UNIQUE_ID, ProxyHeader, ProxyHeaderError, ProxyTls, may_begin, parse
from smtpproxy.wire.reply import Reply

if TYPE_CHECKING:
    from smtpproxy.session.session import Session

BAD_HEADER = Reply(421, "4.7.0", "A connection from here begins with a PROXY header")
NO_STRANGERS = Reply(421, "4.7.0", "A PROXY header is not taken from here")
TOO_MANY = Reply(421, "4.7.0", "Too many connections, try again later")


def announced(session: Session) -> bool:
    """Read who the client is, where a header says so; False: the session is over, and everything is said."""
    client, connection = session.client, session.connection
    timeout = connection.timeout
    try:
        header = _read(session)
    except (ProxyHeaderError, Expired) as wrong:
        refuse(session, BAD_HEADER, str(wrong))
        return False
    connection.timeout = timeout
    if header is not None:
        _believe(session, header)
    return counted(session, client.address)


def counted(session: Session, address: str) -> bool:
    """Count the connection as one of ``address``; False: that one has too many, the session is over."""
    if session.ticket is None or session.ticket.move(address):
        return True
    session.services.log("connection_refused", client=address, reply=str(TOO_MANY))
    session.answer(TOO_MANY)
    return False


def refuse(session: Session, reply: Reply, reason: str) -> None:
    """No header where one must be, one where none may be, or one that is wrong."""
    client = session.client
    session.services.log("proxy_refused", id=client.id, client=client.address, reason=reason)
    session.trace.note(f"PROXY header: {reason}")
    session.answer(reply)


def _read(session: Session) -> ProxyHeader | None:
    """The header; None without one where that is allowed. What follows it is left to be read.

    Raises ``ProxyHeaderError``, ``Expired``, and ``ConnectionLost`` for a health check that only looks whether we are there.
    """
    connection, clock, optional = session.connection, session.services.clock, session.entrance.proxy_optional
    limit = session.services.limits.timeouts.proxy
    end = clock.monotonic() + limit
    data = b""
    while (header := parse(data)) is None:
        connection.timeout = max(end - clock.monotonic(), 0.001) if limit else 0.0
        try:
            data += connection.receive()
        except Expired:
            if optional and not data:
                return None
            raise Expired(f"none within {limit:g} s" if not data else f"not complete within {limit:g} s") from None
        except ConnectionLost:
            if data:
                raise ProxyHeaderError("the connection was closed in the middle of it") from None
            raise
        if optional and not may_begin(data):
            connection.lines.feed(data)
            return None
    connection.lines.feed(data[header.length :])
    return header


def _believe(session: Session, header: ProxyHeader) -> None:
    client, entrance = session.client, session.entrance
    if header.known:
        client.take_identity(address=header.source, port=header.source_port)
        client.trusted = client.address in session.services.relaying.networks
        if entrance.proxy_tls and header.tls is not None:
            client.tls = _tls(header.tls, header.text(AUTHORITY))
    session.trace.note(_told(client, header))


def _tls(said: ProxyTls, server_name: str) -> Tls:
    certificate = Certificate(said.common_name, "", (), "") if said.verified else None
    return Tls(said.version, said.cipher, 0, server_name or None, False, certificate)


def _told(client: Client, header: ProxyHeader) -> str:
    """What came of the header, for the trace."""
    who = f"the client is {client.address} port {client.port}" if header.known else "it speaks for itself"
    ident = f", its id is {header.text(UNIQUE_ID)}" if header.text(UNIQUE_ID) else ""
    tls = f", over {client.tls}" if client.tls is not None else ""
    return f"PROXY header, version {header.version}, of {client.connected_address}: {who}{tls}{ident}"
