"""Lists that are looked up: networks, domains, addresses, each with a value if it has one.

An entry is a key, and behind white space a value; `#` begins a comment. What is found is the most specific entry, by as
many looks into tables as there are forms that would fit, however long the list is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, Protocol

import idna

from smtpproxy.config.problem import did_you_mean
from smtpproxy.config.values import BadValue, Target
from smtpproxy.wire.address import AddressError, is_address_literal, is_hostname, parse_address

EVERYTHING: Final = "*"
_COMMENT = re.compile(r"(?:^|\s)#.*")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_ADDRESS, _LOCAL_PART, _DOMAIN = 1000, 900, 500


class ListError(Exception):
    """A list cannot be used: str() says where and why."""


@dataclass(frozen=True, slots=True)
class Match:
    """The entry that was found: as it is listed, its value ("" when it has none), and how specific it is.

    The rank of a network is its prefix length; an address ranks above a local part ("user@"), that above a domain, that
    above the domains around it, the nearest first; "*" is 0.
    """

    key: str
    value: str
    rank: int


class Table(Protocol):
    """One list. `add` raises ValueError for a key that is none."""

    def add(self, key: str, value: str) -> None: ...

    def find(self, thing: object) -> Match | None: ...

    def __len__(self) -> int: ...


class Networks:
    """Addresses and networks, of both kinds: "192.0.2.1", "192.0.2.0/24", "2001:db8::/32"."""

    __slots__ = ("_tables",)

    def __init__(self) -> None:
        self._tables: dict[int, dict[int, dict[int, str]]] = {4: {}, 6: {}}
        """By version, then by prefix length, the longest first."""

    def add(self, key: str, value: str) -> None:
        network = ip_network(key)
        lengths = self._tables[network.version]
        if network.prefixlen not in lengths:
            lengths[network.prefixlen] = {}
            self._tables[network.version] = dict(sorted(lengths.items(), reverse=True))
        number = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
        self._tables[network.version][network.prefixlen][number] = value

    def find(self, thing: object) -> Match | None:
        try:
            address = ip_address(str(thing))
        except ValueError:
            return None
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        number, bits = int(address), address.max_prefixlen
        for length, networks in self._tables[address.version].items():
            value = networks.get(prefix := number >> (bits - length))
            if value is not None:
                return Match(f"{type(address)(prefix << (bits - length))}/{length}", value, length)
        return None

    def __len__(self) -> int:
        return sum(len(networks) for lengths in self._tables.values() for networks in lengths.values())


class Domains:
    """Host names and mail domains: "example.com", ".example.com" (all below it), "*"; address literals, too."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}

    def add(self, key: str, value: str) -> None:
        if key != EVERYTHING:
            key = ascii_domain(key)
            if not (is_hostname(key.removeprefix(".")) or is_address_literal(key)):
                raise ValueError(f'"{key}" is no domain')
        self._keys[key] = value

    def find(self, thing: object) -> Match | None:
        return self.domain(ascii_domain(str(thing).rstrip(".")))

    def domain(self, name: str) -> Match | None:
        """What fits a name that is lower case, in ASCII."""
        keys = self._keys
        value = keys.get(name) if name else None
        if value is not None:
            return Match(name, value, _DOMAIN)
        at = name.find(".", 1)
        while at > 0:
            value = keys.get(parent := name[at:])
            if value is not None:
                return Match(parent, value, parent.count("."))
            at = name.find(".", at + 1)
        value = keys.get(EVERYTHING)
        return None if value is None else Match(EVERYTHING, value, 0)

    def __len__(self) -> int:
        return len(self._keys)


class Addresses:
    """Mail addresses: "user@example.com", "user@" (anywhere), "example.com" or "@example.com", ".example.com", "*", and "<>"
    for the null sender. Letter case makes no difference."""

    __slots__ = ("_addresses", "_domains")

    def __init__(self) -> None:
        self._addresses: dict[str, str] = {}
        self._domains = Domains()

    def add(self, key: str, value: str) -> None:
        local_part, _, domain = key.rpartition("@")
        if not local_part and key != "<>":
            self._domains.add(key.removeprefix("@"), value)
            return
        if local_part:
            key = address_key(parse_address(key if domain else f"{key}example.com"))
            key = key if domain else key.removesuffix("example.com")
        self._addresses[key] = value

    def find(self, thing: object) -> Match | None:
        key = address_key(thing) or "<>"
        value = self._addresses.get(key)
        if value is not None:
            return Match(key, value, _ADDRESS)
        local_part, at, domain = key.rpartition("@")
        if key != "<>":
            anywhere = f"{local_part if at else domain}@"
            value = self._addresses.get(anywhere)
            if value is not None:
                return Match(anywhere, value, _LOCAL_PART)
        return self._domains.domain(domain if at else "")

    def __len__(self) -> int:
        return len(self._addresses) + len(self._domains)


KINDS: Final[Mapping[str, Callable[[], Table]]] = {"networks": Networks, "domains": Domains, "addresses": Addresses}


def ascii_domain(domain: str) -> str:
    """A domain as the DNS has it, lower case; what has no such form as it is."""
    if domain.isascii():
        return domain.lower()
    try:
        dot = "." if domain.startswith(".") else ""
        return dot + idna.encode(domain.removeprefix("."), uts46=True).decode("ascii")
    except idna.IDNAError:
        return domain.lower()


def address_key(address: object) -> str:
    """An address for comparing: "local@domain" in lower case."""
    local_part, at, domain = str(address).rpartition("@")
    return f"{local_part.lower()}{at}{ascii_domain(domain)}"


# -- values ------------------------------------------------------------------------------------------------------------


def text(value: str) -> None:
    """Any value, or none."""


def several_addresses(value: str) -> None:
    """Addresses, or "@domain", with commas between."""
    if not value:
        raise ValueError("no address behind it")
    for part in value.split(","):
        name = part.strip()
        parse_address(f"postmaster{name}" if name.startswith("@") else name)


def route(value: str, handoffs: Collection[str] | None = None) -> None:
    """The name of a hand-off, or a server: "inbound", "smtp://10.0.0.1:25", "lmtp+unix:/run/lmtp".

    `handoffs` are the names there are, if that is known.
    """
    if not value:
        raise ValueError("no hand-off and no server behind it")
    if not _NAME.fullmatch(value):
        Target.parse(value)
    elif handoffs is not None and value not in handoffs:
        raise ValueError(f"there is no [handoff.{value}]; {did_you_mean(value, handoffs)}".rstrip("; "))


Check = Callable[[str], None]
"""Whether a value is one. Raises ValueError."""

VALUES: Final[Mapping[str, Check]] = {"text": text, "addresses": several_addresses, "route": route}


# -- entries -----------------------------------------------------------------------------------------------------------


def fill(table: Table, entries: Iterable[str], where: str, check: Check, pause: Callable[[], None] | None = None) -> None:
    """Put entries into a list. Raises ListError, with the entry's number behind `where`; `pause` is called now and then."""
    for number, entry in enumerate(entries, 1):
        if pause is not None and number % 1000 == 0:
            pause()
        key, *rest = (_COMMENT.sub("", entry) if "#" in entry else entry).split(None, 1) or ("",)
        if not key:
            continue
        value = rest[0].rstrip() if rest else ""
        try:
            check(value)
            table.add(key, value)
        except (AddressError, BadValue, ValueError) as wrong:
            raise ListError(f"{where}{number}: {wrong}") from None


def best(matches: Iterator[Match | None]) -> Match | None:
    """The most specific; of equals the first."""
    return max((match for match in matches if match is not None), key=lambda match: match.rank, default=None)
