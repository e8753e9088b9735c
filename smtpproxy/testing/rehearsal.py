"""A whole mail without a network: a real session, on a pair of sockets, in front of hand-offs that keep what they took."""

from __future__ import annotations

import _socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import gevent
from gevent import socket
from gevent.event import Event
from msgspec import structs

from smtpproxy.config.limits import Limits
from smtpproxy.config.schema import Relaying
from smtpproxy.config.values import Domains, Target
from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.facts.mail import Mail
from smtpproxy.message.trace import smtp_date
from smtpproxy.net.connection import Connection
from smtpproxy.scripting.kept import Hide, Kept, Snapshot
from smtpproxy.scripting.loader import Rules
from smtpproxy.scripting.trace import Trace
from smtpproxy.session.offer import Offers, own_extensions
from smtpproxy.session.room import Room
from smtpproxy.session.services import Entrance, Services
from smtpproxy.session.session import Session
from smtpproxy.testing.client import FakeClient, Reply
from smtpproxy.testing.handoffs import FakeOutlet, Letter
from smtpproxy.wire.reply import Reply as Answer

PATIENCE = 150.0
"""Seconds for one reply: more than all budgets of a hook."""

TAKEN = Answer(250, "2.0.0", "Ok")
LISTENER = ListenerFacts("test", "127.0.0.1", 25, "mx.example.com")


class Muted(dict[str, FakeOutlet]):
    """Hand-offs that deliver nothing, of `kinds` by name. A name that is not there is a proxy, unless these are `all`."""

    def __init__(self, kinds: Mapping[str, str], *, all: bool = False) -> None:
        super().__init__({name: muted(name, kind) for name, kind in kinds.items()})
        self._all = all

    def get(self, name: str, default: Any = None) -> Any:
        if name not in self and not self._all and ":" not in name:
            self[name] = muted(name, "proxy")
        return super().get(name, default)

    def server(self, address: str, like: str) -> FakeOutlet:
        """The way to a server that a rule names. Raises ValueError."""
        name = str(Target.parse(address))
        return self.setdefault(name, muted(name, "proxy"))


def muted(name: str, kind: str) -> FakeOutlet:
    """A way out that takes everything."""
    outlet = FakeOutlet(name, live=kind in ("proxy", "relay"))
    outlet.on("finish", TAKEN)
    return outlet


class _Clock:
    """A session's, which dates its Received field by another one."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    def monotonic(self) -> float:
        return self._now()

    def date(self) -> str:
        return smtp_date(self._now(), 0)


class Played:
    """What became of a mail. `replies` has each reply behind the command that it answers, `letters` what each hand-off took,
    `copies` what it took for some of the recipients besides.

    `reply` is the one that decided: the refusal that ended it, or the answer to the message.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.mail: Mail | None = None
        self.trace = Trace(client.id)
        self.snapshot: Snapshot | None = None
        self.replies: list[tuple[str, Reply]] = []
        self.reply = Reply("")
        self.letters: dict[str, Letter] = {}
        self.copies: list[Letter] = []

    def keep(self, trace: Trace, client: Client, mail: Mail | None, *, over: bool) -> None:
        """See `Traces`: what is told of the mail, else of the session."""
        if over and (self.snapshot is None or mail is not None):
            self.snapshot = Snapshot(trace, client, mail, trace.remarkable or "asked")
            self.mail = mail or self.mail

    def kept(self, hide: Hide) -> Kept:
        """All of it for people and programs, secrets taken out."""
        whole = Snapshot(self.trace, self.client, self.mail, "asked").kept(hide)
        return structs.replace(self.snapshot.kept(hide), events=whole.events) if self.snapshot is not None else whole

    def heard(self, command: str, reply: Reply) -> bool:
        """Whether the client goes on."""
        self.replies.append((command, reply))
        self.reply = reply
        return reply.code < 400


class Rehearsal:
    """Rules, loaded and metered already, in front of `outlets`, at a listener as `entrance` says.

    Without `relaying` mail is taken for example.com, as by `smtpproxy try`.
    """

    def __init__(
        self,
        rules: Rules,
        doors: Mapping[str, Any],
        *,
        now: Callable[[], float],
        outlets: Muted,
        entrance: Entrance | None = None,
        relaying: Relaying | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.rules = rules
        self.doors = doors
        self.now = now
        self.entrance = entrance or Entrance(LISTENER, "default", LISTENER.hostname)
        self.outlets = outlets
        self.relaying = relaying or Relaying(domains=Domains(["example.com"]))
        self.limits = limits or Limits()
        self.outlets.get(self.entrance.handoff)

    def play(self, client: Client, sender: str, recipients: Sequence[str], message: bytes) -> Played:
        """One connection with one mail, and all that follows from it: observers have looked on, too."""
        for outlet in self.outlets.values():
            outlet.delivered.clear()
        ours, theirs = _socket.socketpair()
        ours.setblocking(False)
        played = Played(client)
        helo, client.helo, client.esmtp = client.helo or "client.example", "", False  # it has not said so yet
        connection = Connection(ours, PATIENCE, self.limits.line_length)
        session = Session(connection, client, self.entrance, self._services(played))
        played.trace = session.trace
        over = _start(session)
        with FakeClient.over(socket.socket(fileno=theirs.detach())) as peer:
            peer.socket.settimeout(PATIENCE)
            _converse(peer, played, helo, sender, recipients, message)
        over.wait()
        connection.close()
        self.rules.observers.drain()
        played.letters = {name: outlet.delivered[-1] for name, outlet in self.outlets.items() if outlet.delivered}
        played.copies = [letter for outlet in self.outlets.values() for letter in outlet.delivered[:-1]]
        return played

    def _services(self, played: Played) -> Services:
        return Services(
            rules=self.rules,
            pin="transaction",
            limits=self.limits,
            relaying=self.relaying,
            outlets=self.outlets,
            server=self.outlets.server,
            offers=Offers(own_extensions(self.limits)),
            resolver=self.doors["dns"],
            clock=_Clock(self.now),
            new_id=lambda: played.client.id,
            log=self.doors["log"],
            room=Room(self.limits),
            traces=played,
            doors=self.doors,
        )


def _start(session: Session) -> Event:
    """Serve, in a greenlet; the event is set when it is over, in whichever greenlet that is."""
    over = Event()

    def run(part: Any) -> None:
        try:
            part()
        finally:
            over.set()

    session.call.abandoned = lambda: run(session.abandon)
    gevent.spawn(run, session.run)
    return over


def _converse(
    peer: FakeClient, played: Played, helo: str, sender: str, recipients: Sequence[str], message: bytes
) -> None:
    """The client's side; goes as far as it is let."""
    try:
        if _opened(peer, played, f"EHLO {helo}", f"MAIL FROM:<{sender}>{_parameters((sender, *recipients), message)}"):
            accepted = [played.heard(f"RCPT {rcpt}", peer.send(f"RCPT TO:<{rcpt}>")) for rcpt in recipients]
            if any(accepted):
                played.heard("DATA", peer.message(message))
        peer.send("QUIT")
    except (ConnectionError, TimeoutError):
        pass  # hung up on: the replies before say why


def _opened(peer: FakeClient, played: Played, *lines: str) -> bool:
    return played.heard("", peer.reply()) and all(played.heard(line, peer.send(line)) for line in lines)


def _parameters(addresses: Iterable[str], message: bytes) -> str:
    eight_bit = "" if message.isascii() else " BODY=8BITMIME"
    return eight_bit if all(map(str.isascii, addresses)) else f"{eight_bit} SMTPUTF8"
