"""Bound sockets, who is let in, and a session for each connection."""

from __future__ import annotations

import _socket
import traceback
from collections.abc import Callable

from smtpproxy.config.schema import Limits
from smtpproxy.dns.resolver import reverse_name
from smtpproxy.facts.client import Client
from smtpproxy.net.accept import Acceptor, GreenletPool
from smtpproxy.net.connection import Connection
from smtpproxy.server.sockets import address
from smtpproxy.server.tally import Tally
from smtpproxy.session.services import Entrance, Services
from smtpproxy.session.session import Session
from smtpproxy.wire.reply import Reply

TOO_MANY = Reply(421, "4.7.0", "Too many connections, try again later")
MAPPED = "::ffff:"


class Admission:
    """How many connections there are, in all and from each address."""

    __slots__ = ("_all", "_each", "_tally")

    def __init__(self, limits: Limits, tally: Tally) -> None:
        self._all = limits.connections
        self._each = limits.connections_per_client
        self._tally = tally

    def enter(self, address: str) -> bool:
        """Count a connection in; False (and not counted) when there is no room for it."""
        tally = self._tally
        if 0 < self._all <= tally.total() or 0 < self._each <= tally.of_address(address):
            return False
        tally.enter(address)
        return True

    def leave(self, address: str) -> None:
        self._tally.leave(address)


class Listener:
    """One bound socket of a [listener.NAME], and the sessions of those who came in by it."""

    __slots__ = ("_acceptor", "_admission", "_entrance", "_pool", "_services", "address", "sessions")

    def __init__(
        self,
        sock: _socket.socket,
        pool: GreenletPool,
        admission: Admission,
        entrance: Entrance,
        services: Services,
        batch: int,
    ) -> None:
        self.address = address(sock)
        self._admission = admission
        self._pool = pool
        self._entrance = entrance
        self._services = services
        self._acceptor = Acceptor(sock, self._serve, pool, batch)
        self.sessions: set[Session] = set()

    @property
    def name(self) -> str:
        return self._entrance.facts.name

    def start(self) -> None:
        self._acceptor.start()

    def close(self) -> None:
        """Let nobody in any more; may be called twice."""
        self._acceptor.close()

    def _serve(self, sock: _socket.socket, peer: tuple[str, int]) -> None:
        entrance, services = self._entrance, self._services
        address = peer[0].removeprefix(MAPPED) if peer[0].startswith(MAPPED) else peer[0]
        limits = services.limits
        connection = Connection(sock, limits.timeouts.command, limits.line_length)
        if not self._admission.enter(address):
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
            session.call.abandoned = None  # it knows the session: a cycle would keep its table of rules
            self._admission.leave(address)
            session.connection.close()

    def _abandoned(self, session: Session, services: Services) -> None:
        """The session's greenlet was given up in the middle of a rule: this one ends the session."""
        self._pool.busy.discard(session.call.greenlet)
        self._run(session, session.abandon, services)


def _lookup(services: Services) -> Callable[[str], tuple[str | None, bool]]:
    return lambda address: reverse_name(services.resolver, address)

