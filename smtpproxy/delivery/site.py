"""The servers of a route and the connections to them: one after the other is tried, those that served are kept and used again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from gevent.lock import Semaphore

from smtpproxy.delivery.needs import Mail, Party
from smtpproxy.delivery.smtp import SmtpClient, UpstreamLost
from smtpproxy.delivery.transaction import AFTER_DOT, TryNext, transact
from smtpproxy.delivery.upstream import Upstream
from smtpproxy.message.body import Body
from smtpproxy.wire.reply import Reply

RECIPIENTS = 100
"""Of one transaction: what every server must take (RFC 5321 4.5.3.1.8)."""


class Outcome(NamedTuple):
    """What became of a recipient; `host` gave the reply, and is empty where the reply is ours."""

    reply: Reply
    host: str = ""
    onward: bool = False
    """The server knows DSN, and what was asked for with it (RFC 3461 5.2.1)."""
    timed: bool = False
    """It knows DELIVERBY (RFC 2852)."""
    final: bool = False
    """What it has taken is in the mailbox: it speaks LMTP."""


class Site:
    """`servers` in the order of preference; at most `connections` at one time."""

    __slots__ = ("_room", "servers", "used")

    def __init__(self, servers: Sequence[Upstream], connections: int) -> None:
        self.servers = tuple(servers)
        self.used = 0
        """Who is at it, or waits for a connection."""
        self._room = Semaphore(connections) if connections else None

    def deliver(self, mail: Mail, recipients: Sequence[Party], body: Body) -> list[Outcome]:
        """An outcome for each recipient. Raises what ``body`` raises."""
        self.used += 1
        try:
            if self._room is None:
                return self._deliver(mail, recipients, body)
            with self._room:
                return self._deliver(mail, recipients, body)
        finally:
            self.used -= 1

    def close(self) -> None:
        for server in self.servers:
            server.drop_idle(everything=True)

    def _deliver(self, mail: Mail, recipients: Sequence[Party], body: Body) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        waiting = list(range(len(recipients)))
        while waiting:
            places, waiting = waiting[:RECIPIENTS], waiting[RECIPIENTS:]
            found = dict(zip(places, self._transaction(mail, [recipients[place] for place in places], body), strict=True))
            outcomes |= found
            if any(outcome.reply.positive for outcome in found.values()):
                waiting = [place for place in places if _too_many(found[place].reply)] + waiting
        return [outcomes[place] for place in range(len(recipients))]

    def _transaction(self, mail: Mail, recipients: Sequence[Party], body: Body) -> list[Outcome]:
        """By the first server that says something of this mail."""
        last = Outcome(Reply(451, "4.4.1", "No server of this destination can be reached"))
        for server in self.servers:
            try:
                return self._at(server, mail, recipients, body)
            except TryNext as refused:
                last = Outcome(refused.reply, str(server))
            except UpstreamLost as lost:
                last = Outcome(Reply(451, "4.4.2" if lost.phase == AFTER_DOT else "4.4.1", f"{server}: {lost}"))
                if lost.phase == AFTER_DOT:
                    break
        return [last] * len(recipients)

    def _at(self, server: Upstream, mail: Mail, recipients: Sequence[Party], body: Body) -> list[Outcome]:
        """A kept connection may have died at rest: then once more over a fresh one."""
        kept = server.take()
        if kept is not None:
            with suppress(_Stale):
                return self._over(kept, server, mail, recipients, body)
        return self._over(server.open(), server, mail, recipients, body)

    def _over(
        self, client: SmtpClient, server: Upstream, mail: Mail, recipients: Sequence[Party], body: Body
    ) -> list[Outcome]:
        server.used += 1
        try:
            replies = transact(client, mail, recipients, body)
        except BaseException as error:
            client.close()
            if client.uses and isinstance(error, UpstreamLost | TryNext) and _at_rest(error):
                raise _Stale from None
            raise
        finally:
            server.used -= 1
        server.keep(client)
        knows = "DSN" in client.extensions, "DELIVERBY" in client.extensions, client.lmtp
        return [Outcome(reply, str(server), *knows) for reply in replies]


def _too_many(reply: Reply) -> bool:
    """For this transaction: the next one takes them (RFC 5321 4.5.3.1.10)."""
    return reply.code == 452 and reply.enhanced in ("", "4.5.3")


class _Stale(Exception):
    """What was said is about the connection, not about the mail."""


def _at_rest(error: UpstreamLost | TryNext) -> bool:
    return error.phase == "MAIL" if isinstance(error, UpstreamLost) else error.reply.code == 421
