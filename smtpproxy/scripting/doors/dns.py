"""Questions to the DNS."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from smtpproxy.dns.resolver import Answer, Resolver, addresses, mx, ptr, txt
from smtpproxy.scripting.doors.base import Door, through

T = TypeVar("T")


class Dns(Door):
    """Questions to the DNS; each blocks this greenlet only. Raises Temporary when there is no answer for now."""

    __slots__ = ()

    def mx(self, domain: object) -> tuple[tuple[int, str], ...]:
        """The mail exchangers as (preference, host), best first; () when there is none."""
        return self._ask("mx", domain, mx)

    def txt(self, name: object) -> tuple[str, ...]:
        """The TXT records, each with its strings joined."""
        return self._ask("txt", name, txt)

    def a(self, name: object) -> tuple[str, ...]:
        """IPv4 addresses."""
        return self._ask("a", name, lambda resolver, name: resolver.query(name, "A").records)

    def aaaa(self, name: object) -> tuple[str, ...]:
        """IPv6 addresses."""
        return self._ask("aaaa", name, lambda resolver, name: resolver.query(name, "AAAA").records)

    def addresses(self, name: object) -> tuple[str, ...]:
        """All addresses, IPv4 first."""
        return self._ask("addresses", name, addresses)

    def ptr(self, address: object) -> str | None:
        """The name that an address claims, unconfirmed."""
        return self._ask("ptr", address, ptr)

    def query(self, name: object, type: str) -> Answer:
        """Any other question: an Answer with .records, .exists and .secure."""
        return self._ask(type, name, lambda resolver, name: resolver.query(name, type))

    def _ask(self, question: str, name: object, ask: Callable[[Resolver, str], T]) -> T:
        return through("dns", f"dns.{question} {name}", lambda resolver: ask(resolver, str(name)), _records)


def _records(found: object) -> object:
    return found.records if isinstance(found, Answer) else found
