"""One upstream server: how to reach it, what it announced last, the idle connections to it, whether it is alive."""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from smtpproxy.config.values import Target
from smtpproxy.delivery.login import Credentials
from smtpproxy.delivery.smtp import SmtpClient, Timeouts, TurnedAway, UpstreamLost
from smtpproxy.delivery.tlspolicy import IN_THE_CLEAR, TlsPolicy
from smtpproxy.net.connection import Expired
from smtpproxy.net.dial import dial
from smtpproxy.wire.extensions import Extensions

IDLE_SECONDS = 20.0
"""How long a connection is kept for the next message: well below the 300 s that servers wait."""

REUSES = 1000
"""Transactions on one connection before a fresh one is made, so that load spreads over the upstream's workers again."""

NOT_UNDERSTOOD = frozenset({500, 502, 503})
"""Answers to EHLO that are none: a server that knows no PROXY header answers it as a command, and has not come to EHLO yet."""

Clock = Callable[[], float]


class Preface(NamedTuple):
    """How a connection begins that stands for one client alone."""

    header: bytes
    """What goes before everything else: a PROXY header."""
    hello: str
    """The name in EHLO."""


class Upstream:
    """A server behind us; connections that carry no client's identity are kept and used again."""

    __slots__ = (
        "_hello_name", "_idle", "_opened", "_own_header", "announced", "clock", "failed", "limit", "login", "probing",
        "target", "timeouts", "tls", "used",
    )  # fmt: skip

    def __init__(
        self,
        target: Target,
        timeouts: Timeouts,
        hello_name: str,
        clock: Clock,
        limit: int = 0,
        tls: TlsPolicy = IN_THE_CLEAR,
        own_header: bytes = b"",
        login: Credentials | None = None,
    ) -> None:
        """``own_header`` begins the connections that are nobody's but ours, where it wants such a header (PROXY)."""
        self.target = target
        self.tls = tls
        self.limit = limit
        """Connections at one time, idle ones among them; 0 for any number."""
        self.used = 0
        """Connections that somebody has taken."""
        self.timeouts = timeouts
        self.announced: Extensions | None = None
        """What EHLO was last answered with; None while it was never reached."""
        self.failed = False
        self.probing = False
        self.clock = clock
        self._hello_name = hello_name
        self._own_header = own_header
        self.login = login
        self._opened = 0
        self._idle: deque[tuple[SmtpClient, float]] = deque()

    def __str__(self) -> str:
        return str(self.target)

    def open(self, timeouts: Timeouts | None = None, preface: Preface | None = None) -> SmtpClient:
        """A fresh connection that is greeted and has said EHLO; raises ``UpstreamLost``, and has ``failed`` then.

        With a ``preface`` also ``TurnedAway``.
        """
        opened = self._opened
        try:
            client = self._connect(timeouts or self.timeouts, preface)
        except UpstreamLost:
            if self._opened == opened:
                self.failed = True  # nobody else was let in meanwhile
            raise
        self._opened += 1
        self.failed = False
        return client

    def _connect(self, timeouts: Timeouts, preface: Preface | None) -> SmtpClient:
        client = self._greeted(timeouts, preface)
        try:
            if self.tls.asks(self.target):
                client = self._encrypted(client, timeouts, preface)
            if self.login is not None:
                self._log_in(client, self.login)
        except (UpstreamLost, TurnedAway):
            client.close()
            raise
        client.timeouts = self.timeouts
        self.announced = client.extensions
        return client

    def _greeted(self, timeouts: Timeouts, preface: Preface | None) -> SmtpClient:
        try:
            connection = dial(self.target.host, self.target.port, self.target.path, timeouts.connect)
        except OSError as error:
            raise UpstreamLost("connect", error.strerror or str(error), isinstance(error, Expired)) from None
        client = SmtpClient(connection, timeouts, self.target.protocol == "lmtp")
        if header := preface.header if preface is not None else self._own_header:
            connection.write(header)
        try:
            reply = client.greet()
            if reply.positive:
                reply = client.hello(self._hello_name if preface is None else preface.hello, fall_back=not header)
            if header and reply.code in NOT_UNDERSTOOD:
                raise UpstreamLost("greeting", f"it takes no PROXY header: {reply}")
            if not reply.positive:
                raise UpstreamLost("greeting", f"refused: {reply}") if preface is None else TurnedAway(str(self), reply)
        except (UpstreamLost, TurnedAway):
            client.close()
            raise
        return client

    def _encrypted(self, client: SmtpClient, timeouts: Timeouts, preface: Preface | None) -> SmtpClient:
        """The same connection in TLS; another one in the clear if that fails and need not be. Raises ``UpstreamLost``."""
        policy, trust = self.tls, self.tls.trust
        assert trust is not None
        if "STARTTLS" not in client.extensions:
            if policy.demanded:
                raise UpstreamLost("TLS", "it does not offer STARTTLS")
            return client
        try:
            reply = client.start_tls(trust.context, policy.server_name(self.target))
            if not reply.positive:
                raise UpstreamLost("TLS", f"STARTTLS refused: {reply}")
            if client.connection.tls is not None:
                trust.check(client.connection.tls)
            client.verified = policy.level == "verify"
            reply = client.hello(self._hello_name if preface is None else preface.hello)
            if not reply.positive:
                raise UpstreamLost("TLS", f"EHLO refused: {reply}")
        except (UpstreamLost, ssl.SSLError) as error:
            client.close()
            if policy.demanded:
                raise UpstreamLost("TLS", _reason(error)) from None
            return self._greeted(timeouts, preface)
        return client

    def _log_in(self, client: SmtpClient, login: Credentials) -> None:
        """Raises ``UpstreamLost``: what we may do there depends on who we are, so nothing is sent as nobody."""
        if client.connection.tls is None and not self.target.near:
            raise UpstreamLost("login", "the connection is not encrypted")
        reply = login.log_in(client)
        if not reply.positive:
            raise UpstreamLost("login", f"refused: {reply}")

    def room(self) -> bool:
        """Whether one more connection is allowed; an idle one gives way to it."""
        if self.limit and self.used + len(self._idle) >= self.limit and self._idle:
            self._idle.popleft()[0].leave()
        return not self.limit or self.used + len(self._idle) < self.limit

    # -- connections kept for the next message -------------------------------------------------------------------

    def take(self) -> SmtpClient | None:
        """An idle connection that is still there, the one used last first."""
        while self._idle:
            client, since = self._idle.pop()
            if self.clock() - since < IDLE_SECONDS and client.connection.quiet():
                return client
            client.close()
        return None

    def keep(self, client: SmtpClient) -> None:
        """Keep ``client``, at rest between transactions, for the next message."""
        client.uses += 1
        if client.uses >= (client.extensions.limit("MAILMAX") or REUSES):
            client.leave()
        else:
            self.failed = False  # it has just served; a refused opening meant that it was busy
            self._idle.append((client, self.clock()))

    def drop_idle(self, everything: bool = False) -> None:
        """Leave connections idle for too long (or all of them); called now and then."""
        while self._idle and (everything or self.clock() - self._idle[0][1] >= IDLE_SECONDS):
            self._idle.popleft()[0].leave()


def _reason(error: UpstreamLost | ssl.SSLError) -> str:
    if isinstance(error, UpstreamLost):
        return error.reason
    return getattr(error, "verify_message", "") or error.reason or str(error)
