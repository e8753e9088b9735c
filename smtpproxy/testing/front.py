"""Our side of the door in this very process: real sessions on a loopback port, with the doors that a test gives them."""

from __future__ import annotations

import _socket
import itertools
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import gevent
from gevent import getcurrent

from smtpproxy.config.limits import Limits
from smtpproxy.config.schema import Relaying
from smtpproxy.config.values import Domains
from smtpproxy.dns.resolver import Resolver, reverse_name
from smtpproxy.dns.zone import Zone
from smtpproxy.facts.client import Client, ListenerFacts
from smtpproxy.handoff.base import Outlet
from smtpproxy.net.accept import Acceptor, GreenletPool
from smtpproxy.net.connection import Connection
from smtpproxy.scripting.doors.cache import Kept
from smtpproxy.scripting.list_files import ListFiles
from smtpproxy.scripting.loader import Rules
from smtpproxy.session.offer import Offers, own_extensions
from smtpproxy.session.room import Room
from smtpproxy.session.services import Entrance, Services, Story
from smtpproxy.session.session import Session
from smtpproxy.stores.memory import MemoryStore
from smtpproxy.testing.client import FakeClient
from smtpproxy.testing.doors import FakeHttp

ENVELOPE = ("MAIL FROM:<a@client.example>", "RCPT TO:<b@example.com>")


class StandingClock:
    """The same date in every Received field."""

    def monotonic(self) -> float:
        return time.monotonic()

    def date(self) -> str:
        return "Tue, 14 Nov 2023 22:13:20 +0000"


class Front:
    """Listener "mx" in front of `outlets`, the first of them its hand-off; recipients in example.com are ours.

    `rules` are files for `folder`, by name; `settings` their tables; `doors` are what they reach besides. `records` is the
    log: (event, fields). A context manager.
    """

    def __init__(
        self,
        *outlets: Outlet,
        folder: Path | None = None,
        rules: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        relaying: Relaying | None = None,
        pin: str = "transaction",
        resolver: Resolver | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        story: Story | None = None,
        http: Mapping[str, Any] | None = None,
        doors: Mapping[str, Any] | None = None,
        **entrance: Any,
    ) -> None:
        self.records: list[tuple[str, dict[str, Any]]] = []
        self.sessions: set[Session] = set()
        self.stopping = False
        self.pool = GreenletPool()
        self._resolver = resolver or Zone({})
        self._doors: dict[str, Any] = {
            "dns": self._resolver, "log": self._log, "store": MemoryStore(), "cache": Kept(), "http": FakeHttp(http or {}),
            "clock": time.time, "sleep": gevent.sleep, "lists": ListFiles(folder or Path(), self._log), **(doors or {}),
        }  # fmt: skip
        self._rules = self._load(folder, rules or {}, settings or {})
        limits = limits or Limits()
        self.services = Services(
            rules=self._rules,
            pin=pin,
            limits=limits,
            relaying=relaying or Relaying(domains=Domains(["example.com"])),
            outlets={outlet.name: outlet for outlet in outlets},
            offers=Offers(own_extensions(limits)),
            resolver=self._resolver,
            clock=StandingClock(),
            new_id=map(str, itertools.count(1)).__next__,
            log=self._log,
            room=Room(limits),
            spool=str(folder) if folder else None,
            stopping=lambda: self.stopping,
            story=story,
            doors=self._doors,
        )
        sock = _socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen(64)
        self.port: int = sock.getsockname()[1]
        facts = ListenerFacts("mx", "127.0.0.1", self.port, "mx.example.com", "lmtp" if entrance.get("lmtp") else "smtp")
        self._entrance = Entrance(facts, outlets[0].name, "mx.example.com", **entrance)
        self._acceptor = Acceptor(sock, self._serve, self.pool)
        self._acceptor.start()

    def client(self, hello: str = "EHLO client.example") -> FakeClient:
        """A client that was greeted and has said hello."""
        return FakeClient.greeted(self.port, hello)

    def begun(self, commands: Iterable[str] = ENVELOPE) -> FakeClient:
        """A client whose envelope was accepted."""
        client = self.client()
        for command in commands:
            reply = client.send(command)
            if reply.code != 250:
                raise AssertionError(f"{command}: {reply}")
        return client

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The fields of each record of an event."""
        return [fields for name, fields in self.records if name == event]

    def reload(self) -> None:
        """Take rules that were saved."""
        self._rules.load()

    def close(self) -> None:
        self._acceptor.close()
        self._rules.stop()

    def _load(self, folder: Path | None, sources: Mapping[str, str], settings: Mapping[str, Mapping[str, Any]]) -> Rules:
        for name, source in sources.items():
            assert folder is not None
            (folder / name).write_text(source, "utf-8")
        if folder is not None:
            folder.chmod(0o755)
        rules = Rules(folder, settings, {"mx": ("*",)}, log=self._log, doors=self._doors)
        rules.load()
        if sources:
            rules.start()
        return rules

    def _log(self, event: str, **fields: Any) -> None:
        self.records.append((event, fields))

    def _serve(self, sock: _socket.socket, peer: tuple[str, int]) -> None:
        limits = self.services.limits
        connection = Connection(sock, limits.timeouts.command, limits.line_length)
        client = Client(
            self.services.new_id(), peer[0], peer[1], self._entrance.facts,
            lambda address: reverse_name(self._resolver, address), connection.ahead,
        )  # fmt: skip
        client.trusted = peer[0] in self.services.relaying.networks
        session = Session(connection, client, self._entrance, self.services)
        self.sessions.add(session)
        try:
            session.run()
        except Exception as error:
            self._log("session_failed", error=repr(error), greenlet=getcurrent())
        finally:
            self.sessions.discard(session)
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
