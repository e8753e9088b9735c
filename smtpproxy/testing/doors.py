"""What rules reach in a test: web servers that answer from a dictionary, a scanner that looks for given octets; all doors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from smtpproxy.dns.resolver import Resolver
from smtpproxy.dns.zone import Zone
from smtpproxy.facts.scan import Scan, ScanError
from smtpproxy.net.http import Fetcher, HttpError, Request, Response
from smtpproxy.scripting.doors.cache import Kept
from smtpproxy.scripting.doors.submit import Submission
from smtpproxy.scripting.list_files import ListFiles
from smtpproxy.stores.base import Store
from smtpproxy.stores.memory import MemoryStore
from smtpproxy.testing.waiting import FixedClock


class FakeHttp:
    """Answers by address: a text or octets, a value for JSON, a status, a Response, or an exception to raise.

    `asked` holds the requests. An address that is not there cannot be reached.
    """

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)
        self.asked: list[Request] = []

    def __setitem__(self, url: str, answer: Any) -> None:
        """From now on this is the answer of an address."""
        self.answers[url] = answer

    def fetch(self, request: Request) -> Response:
        self.asked.append(request)
        answer = self.answers.get(request.url, HttpError(f"{request.url} cannot be reached"))
        if isinstance(answer, Exception):
            raise answer
        response = _response(answer)
        if len(response.body) > request.limit:
            raise HttpError(f"the answer is larger than {request.limit} octets")
        return response


def _response(answer: Any) -> Response:
    if isinstance(answer, Response):
        return answer
    if isinstance(answer, int) and not isinstance(answer, bool):
        return Response(answer)
    if isinstance(answer, str | bytes):
        return Response(200, answer.encode() if isinstance(answer, str) else answer)
    return Response(200, json.dumps(answer).encode(), {"content-type": "application/json"})


class FakeScanner:
    """Finds octets, by the name that they have: {b"EVIL": "Test.Evil"}. Told None it cannot be reached.

    `scanned` holds what it was given.
    """

    def __init__(self, viruses: Mapping[bytes, str] | None) -> None:
        self.viruses = viruses
        self.scanned: list[bytes] = []

    def scan(self, content: Callable[[], Iterable[bytes]], size: int) -> Scan:
        if self.viruses is None:
            raise ScanError("no scanner can be reached")
        self.scanned.append(b"".join(content()))
        found = (name for octets, name in self.viruses.items() if octets in self.scanned[-1])
        return Scan(next(found, ""), server="test")

    def ping(self) -> bool:
        return self.viruses is not None

    def version(self) -> str:
        if self.viruses is None:
            raise ScanError("no scanner can be reached")
        return "FakeScanner"


class FakeAccounts:
    """Accounts by their names, with the addresses that each has besides."""

    def __init__(self, accounts: Mapping[str, Iterable[str]]) -> None:
        self.accounts = {name: tuple(addresses) for name, addresses in accounts.items()}

    def exists(self, address: str) -> bool:
        return any(address in (name, *addresses) for name, addresses in self.accounts.items())

    def addresses(self, name: str) -> tuple[str, ...]:
        return (name, *self.accounts[name]) if name in self.accounts else ()


class FakeUsers(dict[str, FakeAccounts]):
    """The tables: `users["staff"] = {"ann@example.com": ["sales@example.com"]}`."""

    def __init__(self, tables: Mapping[str, Mapping[str, Iterable[str]]]) -> None:
        super().__init__()
        for name, accounts in tables.items():
            self[name] = accounts

    def __setitem__(self, name: str, accounts: Mapping[str, Iterable[str]]) -> None:  # type: ignore[override]
        super().__setitem__(name, FakeAccounts(accounts))


class Outbox:
    """Takes what rules submit; `taken` holds it, and nothing is sent."""

    def __init__(self) -> None:
        self.taken: list[Submission] = []

    def submit(self, submission: Submission) -> str:
        self.taken.append(submission)
        return f"submitted.{len(self.taken)}"


class Logged(NamedTuple):
    """What a rule has written into the log."""

    level: str
    rule: str
    text: str
    fields: dict[str, Any]


class Doors:
    """Everything outside of a rule, made up. `records` is the log, (event, fields).

    sleep() advances the clock instead of waiting; files of lists are found from `folder` on.
    """

    def __init__(
        self,
        *,
        dns: Resolver | None = None,
        http: Mapping[str, Any] | Fetcher | None = None,
        store: Store | None = None,
        cache: Kept | None = None,
        viruses: Mapping[bytes, str] | None = None,
        folder: Path | None = None,
        users: Mapping[str, Mapping[str, Iterable[str]]] | None = None,
        clock: FixedClock | None = None,
    ) -> None:
        self.records: list[tuple[str, dict[str, Any]]] = []
        self.clock = clock or FixedClock()
        self.dns: Any = Zone() if dns is None else dns
        self.http: Any = FakeHttp(http or {}) if isinstance(http, Mapping | None) else http
        self.store = MemoryStore(self.clock) if store is None else store
        self.cache = Kept(self.clock) if cache is None else cache
        self.clamav = FakeScanner(viruses)
        self.lists = ListFiles(folder or Path(), self.log)
        self.users = FakeUsers(users or {})
        self.outbox = Outbox()

    def log(self, event: str, **fields: Any) -> None:
        """One record."""
        self.records.append((event, fields))

    @property
    def by_name(self) -> dict[str, Any]:
        """As rules are given them."""
        return {
            "dns": self.dns, "http": self.http, "store": self.store, "cache": self.cache, "log": self.log,
            "clamav": self.clamav, "lists": self.lists, "clock": self.clock, "sleep": self.clock.advance,
            "users": self.users, "submit": self.outbox,
        }  # fmt: skip
