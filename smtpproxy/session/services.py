"""The record of doors: everything that makes one run of a session differ from another comes in through here."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from smtpproxy.accounts.base import Accounts
from smtpproxy.config.limits import Limits
from smtpproxy.config.schema import Relaying
from smtpproxy.dns.resolver import Resolver
from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.facts.mail import Mail
from smtpproxy.handoff.base import Outlet
from smtpproxy.scripting.loader import Rules
from smtpproxy.scripting.trace import Trace
from smtpproxy.session.offer import Offers
from smtpproxy.session.room import Room


class Clock(Protocol):
    """Time, as the rest of the house is told it."""

    def monotonic(self) -> float:
        """Seconds from some moment on, for differences."""

    def date(self) -> str:
        """Now as a header field writes it (RFC 5322 3.3)."""


class LogLine(Protocol):
    """One structured record: an event and its fields, in the order given."""

    def __call__(self, event: str, **fields: Any) -> None: ...


Story = Callable[[Trace, Any], None]
"""Told the trace and the mail (or None) when a transaction is over."""


class Traces(Protocol):
    """Where traces are kept for `smtpproxy explain`; never waits."""

    def keep(self, trace: Trace, client: Client, mail: Mail | None, *, over: bool) -> None:
        """Told at each refusal, and with `over` when the mail (None: the part of a session that is no mail) has ended."""


class Ticket(Protocol):
    """A connection's place among those that are counted by address ([limits] connections_per_client)."""

    def move(self, address: str) -> bool:
        """Count it under another address from now on; False, and nothing has changed, where that has too many."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """A listener, as its sessions see it."""

    facts: ListenerFacts
    handoff: str
    hostname: str
    banner: str = "ESMTP smtpproxy"
    xclient_from: Container[str] = ()
    xforward_from: Container[str] = ()
    xclient_login: bool = False
    proxy_from: Container[str] = ()
    proxy_optional: bool = False
    proxy_tls: bool = False
    """What a PROXY header says of the client's encryption is believed."""
    lmtp: bool = False
    """LMTP is spoken here."""
    accounts: Accounts | None = None
    """Who may log in; None where only rules can say so."""
    mechanisms: tuple[str, ...] = ()
    """Of SASL, as far as they can be checked."""
    auth_in_clear: bool = False
    """Passwords may come without TLS."""
    auth_required: bool = False
    """Only who has logged in may send."""
    own_senders: bool = False
    """Who has logged in sends from the account's addresses only."""
    drains: bool = True
    """What is left of a refused message is read, instead of hanging up."""
    normalize: bool = False
    """Bare CR and LF are mended instead of refused."""
    submission: bool = False
    """Mail programs send here (RFC 6409)."""
    tls: ssl.SSLContext | None = None
    """With the listener's certificates; None where there is no TLS."""
    tls_required: bool = False
    tls_implicit: bool = False
    tls_exempt: Container[str] = ()
    """Addresses that may send without TLS where it is required."""


@dataclass(frozen=True, slots=True)
class Services:
    """What one generation of the configuration gives to its sessions."""

    rules: Rules
    pin: str
    limits: Limits
    relaying: Relaying
    outlets: Mapping[str, Outlet]
    offers: Offers
    resolver: Resolver
    clock: Clock
    new_id: Callable[[], str]
    log: LogLine
    room: Room
    dialogue: bool = False
    """Every command and reply goes into the log."""
    spool: str | None = None
    """Folder for messages too large for memory; None: the system's."""
    story: Story | None = None
    traces: Traces | None = None
    stopping: Callable[[], bool] = lambda: False
    """True while the server drains: sessions say 421 instead of beginning another transaction."""
    server: Callable[[str, str], Outlet] | None = None
    """The way to a server that a rule names ("smtp://10.0.0.1:25"), in the manner of a hand-off; raises ValueError."""
    doors: Mapping[str, Any] = field(default_factory=dict)
    """What rules reach by name: dns, log."""
