"""Bound sockets, who is let in, and a session for each connection."""

from __future__ import annotations

import _socket
import traceback
from collections.abc import Callable

from smtpproxy.config.schema import Limits
from smtpproxy.config.values import Endpoint
from smtpproxy.dns.resolver import reverse_name
from smtpproxy.facts.client import Client
from smtpproxy.net.accept import Acceptor, GreenletPool
from smtpproxy.net.connection import Connection
from smtpproxy.session.services import Entrance, Services
from smtpproxy.session.session import Session
from smtpproxy.wire.reply import Reply

BACKLOG = 1024
TOO_MANY = Reply(421, "4.7.0", "Too many connections, try again later")
MAPPED = "::ffff:"


def bind(endpoint: Endpoint) -> _socket.socket:
    """A listening socket; raises OSError."""
    family = _socket.AF_INET6 if ":" in endpoint.host else _socket.AF_INET
    sock = _socket.socket(family, _socket.SOCK_STREAM)
    try:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if family == _socket.AF_INET6:
            sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        sock.bind((endpoint.host, endpoint.port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


class Admission:
    """How many connections there are, in all and from each address."""

    __slots__ = ("_by_address", "total")

    def __init__(self) -> None:
        self.total = 0
        self._by_address: dict[str, int] = {}

    def enter(self, address: str, limits: Limits) -> bool:
        """Count a connection in; False (and not counted) when there is no room for it."""
        here = self._by_address.get(address, 0)
        if 0 < limits.connections <= self.total or 0 < limits.connections_per_client <= here:
            return False
        self.total += 1
        self._by_address[address] = here + 1
        return True

    def leave(self, address: str) -> None:
        self.total -= 1
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]


class Listener:
    """One bound socket of a [listener.NAME]; ``current`` gives the newest configuration's entrance and services."""

    __slots__ = ("_acceptor", "_admission", "_current", "_pool", "address", "sessions")

    def __init__(
        self,
        sock: _socket.socket,
        pool: GreenletPool,
        admission: Admission,
        current: Callable[[], tuple[Entrance, Services]],
    ) -> None:
        self.address = Endpoint(*sock.getsockname()[:2])
        self._admission = admission
        self._pool = pool
        self._current = current
        self._acceptor = Acceptor(sock, self._serve, pool)
        self.sessions: set[Session] = set()

    def start(self) -> None:
        self._acceptor.start()

    def close(self) -> None:
        self._acceptor.close()

    def _serve(self, sock: _socket.socket, peer: tuple[str, int]) -> None:
        entrance, services = self._current()
        address = peer[0].removeprefix(MAPPED) if peer[0].startswith(MAPPED) else peer[0]
        limits = services.limits
        connection = Connection(sock, limits.timeouts.command, limits.line_length)
        if not self._admission.enter(address, limits):
            services.log("connection_refused", client=address, reply=str(TOO_MANY))
            connection.write(bytes(TOO_MANY))
            connection.finish()
            return
        client = Client(services.new_id(), address, peer[1], entrance.facts, _lookup(services), connection.ahead)
        client.trusted = address in services.relaying.networks
        session = Session(connection, client, entrance, services)
        session.call.abandoned = lambda: self._abandoned(session, services)
        self.sessions.add(session)
        self._run(session, session.run, services)

    def _run(self, session: Session, part: Callable[[], None], services: Services) -> None:
        client, address = session.client, session.client.connected_address
        try:
            part()
        except Exception:
            services.log("internal_error", level="error", id=client.id, client=address, trace=traceback.format_exc())
        finally:
            self.sessions.discard(session)
            self._admission.leave(address)
            session.connection.close()

    def _abandoned(self, session: Session, services: Services) -> None:
        """The session's greenlet was given up in the middle of a rule: this one ends the session."""
        self._pool.busy.discard(session.call.greenlet)
        self._run(session, session.abandon, services)


def _lookup(services: Services) -> Callable[[str], tuple[str | None, bool]]:
    return lambda address: reverse_name(services.resolver, address)

