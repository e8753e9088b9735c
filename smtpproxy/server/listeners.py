"""Bound sockets, who is let in, and a session for each connection."""

from __future__ import annotations

import _socket
import traceback
from collections.abc import Callable
from socket import AF_INET6, inet_pton

from smtpproxy.config.limits import Limits
from smtpproxy.dns.resolver import reverse_name
from smtpproxy.facts.client import Client
from smtpproxy.net.accept import BUSY, Acceptor, GreenletPool
from smtpproxy.net.connection import Connection
from smtpproxy.server.episode import Episode
from smtpproxy.server.sockets import address
from smtpproxy.server.tally import Tally
from smtpproxy.session.services import Entrance, Services
from smtpproxy.session.session import Session
from smtpproxy.wire.reply import Reply

TOO_MANY = Reply(421, "4.7.0", "Too many connections, try again later")
MAPPED = "::ffff:"
STRESS = 0.9
"""The part of [limits] connections from which on new clients get less time."""


class Admission:
    """How many connections there are, in all and from each address."""

    __slots__ = ("_all", "_each", "_many", "_network", "_tally", "overload", "stress")

    def __init__(self, limits: Limits, tally: Tally) -> None:
        self._all = limits.connections
        self._many = limits.connections * STRESS
        self._each = limits.connections_per_client
        network = limits.connections_per_network
        self._network = max(network, self._each) if network and self._each else 0
        self._tally = tally
        self.overload: Episode | None = None
        """While this process is late with its work: nobody is let in."""
        self.stress = False
        """Most of the room was taken when the last one came in."""

    def enter(self, address: str) -> Ticket | None:
        """Count a connection in; None (and not counted) when there is no room for it.

        Without an address it counts among all, but as nobody's: a server in front of us has yet to say whose it is.
        """
        total = self._tally.total()
        if 0 < self._all <= total:
            return None
        names = self.names(address)
        if not self.room(names):
            return None
        self._tally.enter(*names)
        self.stress = 0 < self._many <= total
        return Ticket(self, self._tally, address, names)

    def names(self, address: str) -> tuple[str, ...]:
        """What a connection of this address is counted under."""
        return (address, network(address)) if address and self._network else (address,)

    def room(self, names: tuple[str, ...]) -> bool:
        """Whether one more connection may be counted under them."""
        address, tally = names[0], self._tally
        if not address:
            return True
        if 0 < self._each <= tally.of_address(address):
            return False
        return len(names) == 1 or tally.total() < self._network or tally.of_address(names[1]) < self._network


class Ticket:
    """A connection that was counted in."""

    __slots__ = ("_admission", "_names", "_tally", "address")

    def __init__(self, admission: Admission, tally: Tally, address: str, names: tuple[str, ...]) -> None:
        self._admission = admission
        self._tally = tally
        self._names = names
        self.address = address
        """Under which it is counted."""

    def move(self, address: str) -> bool:
        """Count it under another address from now on; False, and nothing has changed, where that has too many."""
        if address == self.address:
            return True
        names = self._admission.names(address)
        if not self._admission.room(names):
            return False
        self._tally.leave(*self._names)
        self._tally.enter(*names)
        self.address, self._names = address, names
        return True

    def leave(self) -> None:
        """Count it out."""
        self._tally.leave(*self._names)


def network(address: str) -> str:
    """The neighbourhood of an address, as a name: 24 bits of an IPv4 address, 64 of an IPv6 address."""
    if ":" not in address:
        return address.rpartition(".")[0]
    return inet_pton(AF_INET6, address.partition("%")[0])[:8].hex()


class Listener:
    """One bound socket of a [listener.NAME], and the sessions of those who came in by it."""

    __slots__ = ("_acceptor", "_admission", "_entrance", "_pool", "_services", "_shortage", "address", "sessions")

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
        self._acceptor = Acceptor(sock, self._serve, pool, batch, self._short)
        self._shortage = Episode(services.log, "no_descriptors")
        self.sessions: set[Session] = set()

    @property
    def name(self) -> str:
        return self._entrance.facts.name

    def start(self) -> None:
        self._acceptor.start()

    def close(self) -> None:
        """Let nobody in any more; may be called twice."""
        self._acceptor.close()

    def _serve(self, sock: _socket.socket, peer: tuple[str, int] | str) -> None:
        entrance, services = self._entrance, self._services
        address, port = ("", 0) if isinstance(peer, str | bytes) else peer[:2]
        if address.startswith(MAPPED):
            address = address.removeprefix(MAPPED)
        limits = services.limits
        connection = Connection(sock, limits.timeouts.command, limits.line_length)
        if self._admission.overload is not None:
            self._admission.overload.refused += 1
            connection.write(bytes(BUSY))
            connection.finish()
            return
        hop = (entrance.proxy_from and address in entrance.proxy_from) or (
            entrance.xclient_from and address in entrance.xclient_from
        )
        ticket = self._admission.enter("" if hop else address)
        if ticket is None:
            services.log("connection_refused", client=address, reply=str(TOO_MANY))
            connection.write(bytes(TOO_MANY))
            connection.finish()
            return
        client = Client(services.new_id(), address, port, entrance.facts, _lookup(services), connection.ahead)
        client.trusted = address in services.relaying.networks
        if self._admission.stress and limits.timeouts.stress:
            connection.timeout = min(connection.timeout or limits.timeouts.stress, limits.timeouts.stress)
        session = Session(connection, client, entrance, services, ticket)
        session.call.abandoned = lambda: self._abandoned(session, ticket)
        self.sessions.add(session)
        self._run(session, session.run, ticket)

    def _short(self, refused: int | None) -> None:
        """There were no descriptors for so many clients; None: now there are again."""
        if refused is None:
            self._shortage.end()
        else:
            self._shortage.begin(listener=self.name)
            self._shortage.refused += refused

    def _run(self, session: Session, part: Callable[[], None], ticket: Ticket) -> None:
        client = session.client
        try:
            part()
        except Exception:
            self._services.log("internal_error", level="error", id=client.id, client=client.address, trace=traceback.format_exc())
        finally:
            self.sessions.discard(session)
            session.call.abandoned = None  # it knows the session: a cycle would keep its table of rules
            ticket.leave()
            session.connection.close()

    def _abandoned(self, session: Session, ticket: Ticket) -> None:
        """The session's greenlet was given up in the middle of a rule: this one ends the session."""
        self._pool.busy.discard(session.call.greenlet)
        self._run(session, session.abandon, ticket)


def _lookup(services: Services) -> Callable[[str], tuple[str | None, bool]]:
    return lambda address: reverse_name(services.resolver, address)

