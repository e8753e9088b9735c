"""The resolver interface, what mail asks most often, and the resolver over the network.

A record is a plain value: an address or a name is a str (names in lower case, without the final dot), an MX is
(preference, host), a TXT is its strings joined; any other type is its presentation form (RFC 1035 5.1).
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import dns.exception
import dns.resolver

from smtpproxy.dns.exchange import Exchange, Server, parse_server
from smtpproxy.wire.address import is_hostname


class DnsError(Exception):
    """A question that could not be answered."""


class Temporary(DnsError):
    """No answer for now: SERVFAIL, a timeout, a server that talks nonsense. Ask again later."""


class Answer:
    """What the DNS said: `records` may be empty; `exists` is false for NXDOMAIN only (RFC 2308 2.1).

    `secure` says that the name server validated the answer with DNSSEC (AD, RFC 6840 5.8); believe it as far as you
    believe the way to that server. `ttl` is in seconds.
    """

    __slots__ = ("exists", "records", "secure", "ttl")

    def __init__(
        self, records: Iterable[Any] = (), *, exists: bool = True, secure: bool = False, ttl: float = 0
    ) -> None:
        self.records: tuple[Any, ...] = tuple(records)
        self.exists = exists
        self.secure = secure
        self.ttl = ttl

    def __repr__(self) -> str:
        return f"Answer({self.records!r}, exists={self.exists}, secure={self.secure}, ttl={self.ttl})"


class Resolver(Protocol):
    """Whatever answers DNS questions: `DnsResolver`, `Zone`, a recording."""

    def query(self, name: str, type: str) -> Answer:
        """Answer the question; blocks this greenlet only. Raises Temporary."""


def reverse_pointer(address: str) -> str:
    """The name under in-addr.arpa or ip6.arpa that belongs to an address (RFC 1035 3.5, RFC 3596 2.5)."""
    return ipaddress.ip_address(address).reverse_pointer


def ptr(resolver: Resolver, address: str) -> str | None:
    """The name that the address claims, unconfirmed; None when it claims none. Raises Temporary."""
    records = resolver.query(reverse_pointer(address), "PTR").records
    return str(records[0]) if records else None


def addresses(resolver: Resolver, name: str) -> tuple[str, ...]:
    """All addresses of a name, IPv4 first. Raises Temporary."""
    return (*resolver.query(name, "A").records, *resolver.query(name, "AAAA").records)


def mx(resolver: Resolver, domain: str) -> tuple[tuple[int, str], ...]:
    """The mail exchangers of a domain by preference (RFC 5321 5.1), without the fall-back to its address."""
    return tuple(sorted(resolver.query(domain, "MX").records))


def txt(resolver: Resolver, name: str) -> tuple[str, ...]:
    """The TXT records of a name, each with its strings joined. Raises Temporary."""
    return resolver.query(name, "TXT").records


def reverse_name(resolver: Resolver, address: str) -> tuple[str | None, bool]:
    """(name, temporary): the client's forward-confirmed name, as Postfix finds it.

    The name counts only if one of its own addresses is the client's: else (None, False), "unknown". When the DNS
    failed for now: (None, True).
    """
    client = ip(address)
    if client is None:
        return None, False
    try:
        name = ptr(resolver, str(client))
        if name is None or not is_hostname(name) or ip(name) is not None:
            return None, False
        forward = resolver.query(name, "A" if client.version == 4 else "AAAA").records
    except Temporary:
        return None, True
    confirmed = any(ip(record) == client for record in forward)
    return (name if confirmed else None), False


def ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a text is, IPv4 where it is mapped into IPv6; None when it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class DnsResolver:
    """Asks name servers over UDP, over TCP when an answer was truncated; keeps answers for as long as they allow.

    `nameservers` are addresses with an optional port ("192.0.2.53", "192.0.2.53:5353", "[2001:db8::53]:53");
    without any, those of the system. `timeout` is the deadline in seconds of one question, whatever is tried in it.
    """

    __slots__ = ("_cache", "_exchange")

    def __init__(
        self,
        nameservers: Sequence[str] = (),
        *,
        timeout: float = 5.0,
        cache: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        servers = [parse_server(text) for text in nameservers] or system_servers()
        self._exchange = Exchange(servers, timeout)
        self._cache = Cache(cache, clock)

    def query(self, name: str, type: str) -> Answer:
        """Answer from the names known here, the cache, or the name servers. Raises Temporary."""
        name, type = name.rstrip(".").lower(), type.upper()
        answer = local_answer(name, type) or self._cache.get((name, type))
        if answer is None:
            try:
                answer = Answer(**self._exchange.ask(name, type))
            except (OSError, dns.exception.DNSException) as error:
                raise Temporary(f"{name} {type}: {error}") from error
            self._cache.put((name, type), answer)
        return answer


def system_servers() -> list[Server]:
    """The name servers in /etc/resolv.conf; the local one when it names none (resolv.conf(5))."""
    try:
        configured = dns.resolver.Resolver().nameservers
    except dns.resolver.NoResolverConfiguration:
        configured = []
    return [parse_server(str(server)) for server in configured] or [("127.0.0.1", 53)]


def local_answer(name: str, type: str) -> Answer | None:
    """Names that never leave this machine: localhost, its reverse, invalid (RFC 6761 6.3 and 6.4, RFC 6303 4.2)."""
    if name == "localhost" or name.endswith(".localhost"):
        return Answer({"A": ["127.0.0.1"], "AAAA": ["::1"]}.get(type, ()))
    if name == "invalid" or name.endswith(".invalid"):
        return Answer(exists=False)
    if name.endswith(".127.in-addr.arpa") or name == LOOPBACK6:
        return Answer(["localhost"] if type == "PTR" else ())
    return None


LOOPBACK6 = reverse_pointer("::1")


class Cache:
    """Answers by (name, type) until their TTL has passed, an hour at most; above `limit` the oldest go first."""

    __slots__ = ("_clock", "_entries", "_limit")

    LONGEST = 3600.0

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._entries: dict[tuple[str, str], tuple[float, Answer]] = {}

    def get(self, key: tuple[str, str]) -> Answer | None:
        """The answer kept for the question, if it is still good."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= self._clock():
            del self._entries[key]
            return None
        return entry[1]

    def put(self, key: tuple[str, str], answer: Answer) -> None:
        """Keep an answer; one with no time to live is not kept (RFC 1035 3.2.1)."""
        if answer.ttl <= 0 or self._limit <= 0:
            return
        self._entries.pop(key, None)
        if len(self._entries) >= self._limit:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (self._clock() + min(answer.ttl, self.LONGEST), answer)

    def __len__(self) -> int:
        return len(self._entries)
