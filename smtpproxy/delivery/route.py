"""Where mail for a domain goes: a static route, a smarthost, or the DNS (RFC 5321 5.1, RFC 7505)."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

import idna

from smtpproxy.config.values import Target
from smtpproxy.dns.resolver import Resolver, Temporary, addresses, mx
from smtpproxy.wire.reply import Reply

ANY: Final = "*"
"""The name of the smarthost among the static routes."""

HOSTS: Final = 10
"""Of the mail exchangers of a domain so many are asked for their addresses."""


class NoRoute(Exception):
    """`reply` is what becomes of the recipients: 4xx for now, 5xx for good."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class Route(NamedTuple):
    """`site` is the same for all domains that go to the same servers; `static` is the name of its table, or ""."""

    site: str
    targets: tuple[Target, ...]
    static: str = ""


class Routes:
    """Finds routes. `hostname` and `ours` are this server's name and addresses: mail that leads back here loops."""

    __slots__ = ("_hostname", "_ours", "_port", "_resolver", "_shuffle", "_static")

    def __init__(
        self,
        static: Mapping[str, Sequence[Target]],
        resolver: Resolver,
        hostname: str,
        ours: Collection[str] = (),
        port: int = 25,
        shuffle: Callable[[list[str]], None] = random.shuffle,
    ) -> None:
        self._static = static
        self._resolver = resolver
        self._hostname = hostname.lower()
        self._ours = ours
        self._port = port
        self._shuffle = shuffle

    def find(self, domain: str) -> Route:
        """The route of a recipient's domain, "" for that of the bare <postmaster>. Raises ``NoRoute``."""
        domain = domain or self._hostname
        for name in (domain, ANY):
            if name in self._static:
                return Route(f"[{name}]", tuple(self._static[name]), name)
        if domain.startswith("["):
            return self._literal(domain)
        try:
            return self._by_dns(_encoded(domain))
        except Temporary as error:
            raise NoRoute(Reply(451, "4.4.3", f"The DNS gives no answer now: {error}")) from None

    def _by_dns(self, domain: str) -> Route:
        exchangers = mx(self._resolver, domain)
        if exchangers == ((0, "."),) or exchangers == ((0, ""),):
            raise NoRoute(Reply(556, "5.1.10", f"{domain} takes no mail (null MX)"))  # RFC 7505 4.2
        hosts = self._ordered(exchangers) if exchangers else [domain]  # RFC 5321 5.1: the implicit MX
        targets = tuple(Target("smtp", address, self._port) for host in hosts[:HOSTS] for address in self._addresses(host))
        if not targets:
            raise NoRoute(self._unreachable(domain, bool(exchangers)))
        if exchangers and any(target.host in self._ours for target in targets):
            raise NoRoute(_loop(domain))
        return Route(",".join(sorted(hosts)), targets)

    def _ordered(self, exchangers: Sequence[tuple[int, str]]) -> list[str]:
        """By preference, equal ones in any order; if we are one of them, only those before us (RFC 5321 5.1)."""
        hosts: list[str] = []
        for _, equal in groupby(exchangers, itemgetter(0)):
            names = [name for _, name in equal]
            if self._hostname in names:
                break
            self._shuffle(names)
            hosts += names
        if not hosts:
            raise NoRoute(_loop(exchangers[0][1]))
        return hosts

    def _addresses(self, host: str) -> tuple[str, ...]:
        return addresses(self._resolver, host)

    def _unreachable(self, domain: str, exchangers: bool) -> Reply:
        if exchangers:
            return Reply(451, "4.4.4", f"None of the mail exchangers of {domain} has an address")
        if self._resolver.query(domain, "A").exists:
            return Reply(550, "5.4.4", f"{domain} has no server")
        return Reply(550, "5.1.2", f"{domain} does not exist")

    def _literal(self, domain: str) -> Route:
        address = domain.strip("[]")
        address = address[5:] if address.lower().startswith("ipv6:") else address
        if address in self._ours:
            raise NoRoute(_loop(domain))
        return Route(domain, (Target("smtp", address, self._port),))


def _loop(domain: str) -> Reply:
    return Reply(554, "5.4.6", f"Mail for {domain} loops back to this server")


def _encoded(domain: str) -> str:
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode()
    except idna.IDNAError as error:
        raise NoRoute(Reply(550, "5.1.2", f"{domain} is no domain: {error}")) from None
