"""The kinds of value that settings have beyond numbers and text; each parses from what stands in the TOML file."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

DURATION_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZE_UNITS: Final = {"GB": 1 << 30, "MB": 1 << 20, "KB": 1 << 10, "B": 1}

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]?)i?B?", re.IGNORECASE)
_HOST = re.compile(r"(?=.{1,255}\Z)\w(?:[\w-]{0,61}\w)?(?:\.\w(?:[\w-]{0,61}\w)?)*\.?")
_ENDPOINT = re.compile(r"(?:\[([^\]]*)\]|([^:\[\]*]*)):(\d+)")
_UPSTREAMS: Final = "host:port, smtp://host:port, lmtp://host:port, lmtp+unix:/path"
_SCANNER_SOCKET: Final = "clamav+unix:"
_UNIX: Final = "unix:"
_LONGEST_PATH: Final = 107  # sun_path of unix(7), without its NUL
_DEFAULT_PORT: Final = {"smtp": 25, "lmtp": 24}


class BadValue(ValueError):
    """The operator's value cannot be used; str() says why, `suggestion` what may have been meant (or "")."""

    def __init__(self, text: str, suggestion: str = "") -> None:
        super().__init__(text)
        self.suggestion = suggestion


class Duration(float):
    """Seconds. Written "500ms", "30s", "5m", "1h30m", "5d", or 0."""

    __slots__ = ()

    @classmethod
    def parse(cls, raw: object) -> Duration:
        if isinstance(raw, int | float) and not isinstance(raw, bool):
            if raw == 0:
                return cls(0)
            raise BadValue(f"a duration needs a unit, not {raw!r}", f'"{raw}s"')
        text = _text(raw, 'a duration such as "5m"')
        if text.strip() == "0":
            return cls(0)
        if not _DURATION.fullmatch(text):
            raise BadValue(f'{text!r} is no duration: write a number and ms, s, m, h or d, such as "5m"')
        return cls(sum(float(number) * DURATION_UNITS[unit] for number, unit in _DURATION_PART.findall(text)))

    def __str__(self) -> str:
        for unit in ("d", "h", "m", "s"):
            if self and self % DURATION_UNITS[unit] == 0:
                return f"{int(self / DURATION_UNITS[unit])}{unit}"
        return f"{round(self * 1000)}ms" if self else "0"


class Size(int):
    """Octets. Written "64KB", "50MB" (1 KB is 1024 octets) or as a plain number of octets."""

    __slots__ = ()

    @classmethod
    def parse(cls, raw: object) -> Size:
        if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0:
            return cls(raw)
        text = _text(raw, 'a size such as "50MB"')
        match = _SIZE.fullmatch(text.strip())
        if not match:
            raise BadValue(f'{text!r} is no size: write a number and KB, MB or GB, such as "50MB"')
        return cls(float(match[1]) * SIZE_UNITS[f"{match[2].upper()}B"])

    def __str__(self) -> str:
        for unit, octets in SIZE_UNITS.items():
            if self and self % octets == 0:
                return f"{int(self) // octets}{unit}" if octets > 1 else str(int(self))
        return "0"


class Rate:
    """So many within a time. Written "100/1h", or "500MB/1d" for octets."""

    __slots__ = ("_text", "count", "within")

    def __init__(self, text: str, count: int, within: float) -> None:
        self._text = text
        self.count = count
        self.within = within
        """Seconds."""

    @classmethod
    def parse(cls, raw: object) -> Rate:
        text = _text(raw, 'a rate such as "100/1h"')
        count, _, within = text.partition("/")
        try:
            found = int(Size.parse(count)), float(Duration.parse(within.strip()))
        except BadValue:
            found = 0, 0.0
        if not all(found):
            raise BadValue(f'{text!r} is no rate: write how many, and within what time, such as "100/1h"')
        return cls(text, *found)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<{self}>"


class Hostname(str):
    """A host name, lower case."""

    __slots__ = ()

    @classmethod
    def parse(cls, raw: object) -> Hostname:
        text = _text(raw, "a host name")
        if not _HOST.fullmatch(text):
            raise BadValue(f"{text!r} is no host name")
        return cls(text.rstrip(".").lower())

    @classmethod
    def own(cls) -> Hostname:
        """What this machine calls itself. Asks the resolver only when the machine's own name has no dot."""
        name = socket.gethostname()
        if "." not in name:
            name = socket.getfqdn()
        return cls(name.lower() if "." in name and _HOST.fullmatch(name) else "localhost.localdomain")


class Endpoint(NamedTuple):
    """An address to listen on. `host` is without brackets; port 0 lets the system choose. Or the `path` of a Unix socket."""

    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, raw: object) -> Endpoint:
        text = _text(raw, 'an address such as "127.0.0.1:25"')
        if text.startswith(_UNIX):
            return cls("", 0, _socket_path(text))
        match = _ENDPOINT.fullmatch(text)
        if not match or not (match[1] or match[2]):
            raise BadValue(f'{text!r} is neither "host:port" nor "[IPv6]:port" nor "unix:/path"', _endpoint_hint(text))
        return cls(_host(match[1], match[2], text), _port(match[3], text))

    def __str__(self) -> str:
        if self.path:
            return _UNIX + self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Target(NamedTuple):
    """An upstream server: `protocol` smtp or lmtp, at host and port, or at a Unix socket `path` (then host is "")."""

    protocol: str
    host: str
    port: int
    path: str = ""

    @property
    def near(self) -> bool:
        """What is said to it does not leave this machine."""
        try:
            return bool(self.path) or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @classmethod
    def parse(cls, raw: object) -> Target:
        text = _text(raw, 'an upstream such as "127.0.0.1:10025"')
        if text.startswith("lmtp+unix:"):
            path = text.removeprefix("lmtp+unix:")
            if not path:
                raise BadValue("lmtp+unix: needs the path of a socket", '"lmtp+unix:/run/lmtp"')
            return cls("lmtp", "", 0, path)
        protocol, found, rest = text.rpartition("://")
        if found and protocol not in _DEFAULT_PORT:
            raise BadValue(f"{text!r} is none of {_UPSTREAMS}")
        protocol = protocol or "smtp"
        if not rest.endswith("]") and rest.count(":") != 1 and "]:" not in rest:
            if ":" in rest:
                raise BadValue(f"{text!r}: an IPv6 address stands in brackets", f'"[{rest}]:{_DEFAULT_PORT[protocol]}"')
            rest = f"{rest}:{_DEFAULT_PORT[protocol]}"
        elif rest.endswith("]"):
            rest = f"{rest}:{_DEFAULT_PORT[protocol]}"
        match = _ENDPOINT.fullmatch(rest)
        if not match or not (match[1] or match[2]):
            raise BadValue(f"{text!r} is none of {_UPSTREAMS}")
        port = _port(match[3], text)
        if not port:
            raise BadValue(f"{text!r}: an upstream's port cannot be 0")
        return cls(protocol, _host(match[1], match[2], text), port)

    def __str__(self) -> str:
        if self.path:
            return f"lmtp+unix:{self.path}"
        place = str(Endpoint(self.host, self.port))
        return place if self.protocol == "smtp" else f"{self.protocol}://{place}"


class ScannerTarget(NamedTuple):
    """A server that scans: at host and port, or at a Unix socket `path` (then host is "")."""

    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, raw: object) -> ScannerTarget:
        text = _text(raw, 'a scanner such as "127.0.0.1:3310"')
        if text.startswith(_SCANNER_SOCKET):
            path = text.removeprefix(_SCANNER_SOCKET)
            if not path.startswith("/"):
                raise BadValue(f"{text!r}: a socket has a whole path", f'"{_SCANNER_SOCKET}/run/clamav/clamd.ctl"')
            return cls("", 0, path)
        if text.startswith("/"):
            raise BadValue(f"{text!r}: a socket is written with its kind", f'"{_SCANNER_SOCKET}{text}"')
        endpoint = Endpoint.parse(text)
        if not endpoint.port:
            raise BadValue(f"{text!r}: a scanner's port cannot be 0")
        return cls(*endpoint)

    def __str__(self) -> str:
        return f"{_SCANNER_SOCKET}{self.path}" if self.path else str(Endpoint(self.host, self.port))


LOCAL: Final = "unix"


class Networks:
    """A set of IP networks; `"192.0.2.1" in networks`. An IPv4 address mapped into IPv6 counts as IPv4.

    The word "unix" stands for whoever comes by a Unix socket, and has no address: "" is in networks then.
    """

    __slots__ = ("_masks", "local", "networks")

    def __init__(self, networks: Iterable[str] = ()) -> None:
        words = tuple(networks)
        self.local = LOCAL in words
        self.networks = tuple(ipaddress.ip_network(text) for text in words if text != LOCAL)
        self._masks = tuple((n.version, int(n.network_address), int(n.netmask)) for n in self.networks)

    @classmethod
    def parse(cls, raw: object) -> Networks:
        if not isinstance(raw, list | tuple):
            raise BadValue('expected a list of networks such as ["192.0.2.0/24"]')
        return cls(text if text == LOCAL else str(_network(text)) for text in raw)

    def __contains__(self, address: object) -> bool:
        if not address:
            return self.local
        if not self._masks or not isinstance(address, str):
            return False
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        number, version = int(ip), ip.version
        return any(version == v and number & mask == network for v, network, mask in self._masks)

    def __iter__(self) -> Iterator[str]:
        yield from map(str, self.networks)
        if self.local:
            yield LOCAL

    def __bool__(self) -> bool:
        return bool(self._masks) or self.local

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Networks) and (self.networks, self.local) == (other.networks, other.local)

    def __hash__(self) -> int:
        return hash((self.networks, self.local))

    def __repr__(self) -> str:
        return f"Networks({list(self)!r})"


class Domains(frozenset[str]):
    """A set of mail domains, lower case; `domain in domains` is an exact match."""

    __slots__ = ()

    @classmethod
    def parse(cls, raw: object) -> Domains:
        if not isinstance(raw, list | tuple):
            raise BadValue('expected a list of domains such as ["example.com"]')
        return cls(_domain(text) for text in raw)


class LogTo(str):
    """Where the log goes: "stdout", "syslog" or the path of a file."""

    __slots__ = ()

    @property
    def file(self) -> str:
        """The path, or "" when the log does not go to a file."""
        return "" if self in ("stdout", "syslog") else str(self)


def _text(raw: Any, wanted: str) -> str:
    if not isinstance(raw, str):
        raise BadValue(f"expected {wanted}, got {raw!r}")
    return raw


def _port(digits: str, text: str) -> int:
    if int(digits) > 65535:
        raise BadValue(f"{text!r}: a port is at most 65535")
    return int(digits)


def _host(bracketed: str | None, plain: str | None, text: str) -> str:
    if bracketed is not None:
        try:
            return str(ipaddress.IPv6Address(bracketed.split("%")[0])) + bracketed[len(bracketed.split("%")[0]) :]
        except ValueError:
            raise BadValue(f"{text!r}: {bracketed!r} is no IPv6 address") from None
    if not plain or not _HOST.fullmatch(plain):
        raise BadValue(f"{text!r}: {plain!r} is no host name or IPv4 address")
    if re.fullmatch(r"[\d.]+", plain):
        try:
            ipaddress.IPv4Address(plain)
        except ValueError:
            raise BadValue(f"{text!r}: {plain!r} is no IPv4 address") from None
    return plain


def _socket_path(text: str) -> str:
    path = text.removeprefix(_UNIX)
    if not path.startswith("/"):
        raise BadValue(f"{text!r}: a socket has a whole path", f'"{_UNIX}/run/smtpproxy.sock"')
    if len(path.encode()) > _LONGEST_PATH:
        raise BadValue(f"{text!r}: the path of a socket has at most {_LONGEST_PATH} octets")
    return path


def _endpoint_hint(text: str) -> str:
    if text.startswith("/"):
        return f'"{_UNIX}{text}"'
    port = text.removeprefix(":").removeprefix("*:")
    if port.isdigit():
        return f'"0.0.0.0:{port}" and "[::]:{port}"'
    address, _, port = text.rpartition(":")
    if ":" in address and "[" not in text and port.isdigit():
        return f'"[{address}]:{port}"'
    return ""


def _network(raw: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    text = _text(raw, 'a network such as "192.0.2.0/24"')
    try:
        return ipaddress.ip_network(text)
    except ValueError as wrong:
        try:
            wider = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise BadValue(f'{text!r} is no network such as "192.0.2.0/24"') from wrong
        raise BadValue(f"{text!r} has bits set behind its prefix", f'"{wider}"') from wrong


def _domain(raw: object) -> str:
    text = _text(raw, "a domain")
    if "*" in text or text.startswith("."):
        raise BadValue(f"{text!r}: a domain here is matched exactly; list every one")
    if "@" in text:
        raise BadValue(f"{text!r} is an address, not a domain", f'"{text.rpartition("@")[2]}"')
    if not _HOST.fullmatch(text):
        raise BadValue(f"{text!r} is no domain")
    return text.rstrip(".").lower()
