"""The PROXY protocol, versions 1 and 2: a balancer says, before anything else, whose connection it passes on.

The specification is HAProxy's, doc/proxy-protocol.txt; the numbers of sections are those of its revision of 2020/03/05.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V1_LIMIT = 107
"""Octets of a header of version 1 with its CRLF (2.1)."""

LOCAL_V1 = b"PROXY UNKNOWN\r\n"
LOCAL_V2 = SIGNATURE + b"\x20\x00\x00\x00"
"""The connection is the sender's own: a health check."""

ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE_ID, SSL = 0x01, 0x02, 0x03, 0x04, 0x05, 0x20
_SSL_VERSION, _SSL_CN, _SSL_CIPHER = 0x21, 0x22, 0x23
_CLIENT_SSL, _CERT_CONN, _CERT_SESS = 0x01, 0x02, 0x04

_V1 = b"PROXY "
_V2_FIXED = len(SIGNATURE) + 4
_PORT = re.compile(r"0|[1-9][0-9]{0,4}").fullmatch
_COMMANDS = {0x20: "LOCAL", 0x21: "PROXY"}
_FAMILIES = {
    0x00: ("UNSPEC", "UNSPEC"), 0x11: ("INET", "STREAM"), 0x12: ("INET", "DGRAM"), 0x21: ("INET6", "STREAM"),
    0x22: ("INET6", "DGRAM"), 0x31: ("UNIX", "STREAM"), 0x32: ("UNIX", "DGRAM"),
}  # fmt: skip
_ADDRESSES = {"UNSPEC": 0, "INET": 12, "INET6": 36, "UNIX": 216}
"""Octets of both addresses with their ports (2.2)."""

Tlv = tuple[int, bytes]


class ProxyHeaderError(ValueError):
    """What came is no PROXY header; str() says why."""


class ProxyTls(NamedTuple):
    """What the balancer says of the client's encryption (2.2.6); "" is not said."""

    version: str
    cipher: str
    verified: bool
    """The client has shown a certificate, and it was good."""
    common_name: str


class ProxyHeader(NamedTuple):
    """One header. `length` is that of the header in octets: what follows is the client's.

    `command` is PROXY, LOCAL or (version 1) UNKNOWN; `family` INET, INET6, UNIX or UNSPEC, "" where it counts for nothing.
    Addresses are in their shortest form, an IPv4 address mapped into IPv6 as IPv4; paths for UNIX.
    """

    version: int
    command: str
    length: int
    family: str = ""
    protocol: str = ""
    source: str = ""
    destination: str = ""
    source_port: int = 0
    destination_port: int = 0
    tlvs: tuple[Tlv, ...] = ()
    tls: ProxyTls | None = None
    """None: the client has connected without TLS, or nothing is known of it."""

    @property
    def known(self) -> bool:
        """It names a client by its IP address; else the connection's own ends count (2.1, 2.2)."""
        return self.family in ("INET", "INET6")

    def text(self, kind: int) -> str:
        """The first TLV of a kind as text, "" when there is none."""
        found = next((value for each, value in self.tlvs if each == kind), b"")
        return found.decode("utf-8", "replace")


# --- reading


def may_begin(data: bytes) -> bool:
    """Whether these octets are the beginning of a header, as far as they go."""
    return _V1.startswith(data[: len(_V1)]) or SIGNATURE.startswith(data[: len(SIGNATURE)])


def looks_like_proxy(data: bytes) -> bool:
    """The first octets are those of a header, on a connection that must have none."""
    return data.startswith((b"PROXY TCP", b"PROXY UNKNOWN", SIGNATURE))


def parse(data: bytes) -> ProxyHeader | None:
    """The header at the beginning of `data`, None while it is not there as a whole. Raises ``ProxyHeaderError``."""
    if not may_begin(data):
        raise ProxyHeaderError(f"no PROXY header: it begins with {data[:12]!r}")
    if data.startswith(_V1):
        return _parse_v1(data[:V1_LIMIT])
    return _parse_v2(data) if len(data) >= _V2_FIXED else None


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = next((place for place, octet in enumerate(data) if octet in b"\r\n"), -1)
    if end < 0 or data[end:] == b"\r":
        if len(data) >= V1_LIMIT:
            raise ProxyHeaderError(f"no CRLF within {V1_LIMIT} octets")
        return None
    if data[end : end + 2] != b"\r\n":
        raise ProxyHeaderError("its line does not end in CRLF")
    words = data[len(_V1) : end].decode("latin-1").split(" ")
    if words[0] == "UNKNOWN":
        return ProxyHeader(1, "UNKNOWN", end + 2)
    family = {"TCP4": "INET", "TCP6": "INET6"}.get(words[0])
    if family is None:
        raise ProxyHeaderError(f"{words[0]!r} is none of TCP4, TCP6, UNKNOWN")
    if len(words) != 5:
        raise ProxyHeaderError(f"{len(words) - 1} words behind {words[0]}, not two addresses and two ports")
    source, destination = (_address(word, family) for word in words[1:3])
    source_port, destination_port = (_port(word) for word in words[3:])
    return ProxyHeader(1, "PROXY", end + 2, family, "STREAM", source, destination, source_port, destination_port)


def _address(word: str, family: str) -> str:
    try:
        return _shortest(IPv4Address(word) if family == "INET" else IPv6Address(word))
    except ValueError:
        raise ProxyHeaderError(f"{word!r} is no {'IPv4' if family == 'INET' else 'IPv6'} address") from None


def _shortest(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ValueError("an interface says nothing on another machine")
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
    return str(address)


def _port(word: str) -> int:
    if not _PORT(word) or int(word) > 65535:
        raise ProxyHeaderError(f"{word!r} is no port")
    return int(word)


def _parse_v2(data: bytes) -> ProxyHeader | None:
    kind, transport, size = struct.unpack_from("!BBH", data, len(SIGNATURE))
    if kind >> 4 != 2:
        raise ProxyHeaderError(f"version {kind >> 4} behind the signature of version 2")
    command = _COMMANDS.get(kind)
    if command is None:
        raise ProxyHeaderError(f"unknown command {kind & 15}")
    if command == "PROXY" and transport not in _FAMILIES:
        raise ProxyHeaderError(f"unknown address family and protocol 0x{transport:02x}")
    family, protocol = _FAMILIES.get(transport, ("UNSPEC", "UNSPEC"))
    if command == "PROXY" and size < _ADDRESSES[family]:
        raise ProxyHeaderError(f"{size} octets do not hold the addresses of {family}: {_ADDRESSES[family]}")
    length = _V2_FIXED + size
    if len(data) < length:
        return None
    if command == "LOCAL":  # whatever follows is to be skipped
        return ProxyHeader(2, command, length)
    ends = _ends(data[_V2_FIXED:], family)
    tlvs = _tlvs(data[_V2_FIXED + _ADDRESSES[family] : length])
    _check(tlvs, data[:length])
    return ProxyHeader(2, command, length, family, protocol, *ends, tlvs, _tls(tlvs))


def _ends(data: bytes, family: str) -> tuple[str, str, int, int]:
    """Source, destination and their ports."""
    if family == "UNSPEC":
        return "", "", 0, 0
    if family == "UNIX":
        first, second = data[:108], data[108:216]
        return _path(first), _path(second), 0, 0
    size = 4 if family == "INET" else 16
    source, destination = ip_address(data[:size]), ip_address(data[size : 2 * size])
    source_port, destination_port = struct.unpack_from("!HH", data, 2 * size)
    return _shortest(source), _shortest(destination), source_port, destination_port


def _path(octets: bytes) -> str:
    return octets.partition(b"\x00")[0].decode("utf-8", "surrogateescape")


def _tlvs(data: bytes) -> tuple[Tlv, ...]:
    found: list[Tlv] = []
    place = 0
    while place < len(data):
        if len(data) - place < 3:
            raise ProxyHeaderError("an additional field is cut off")
        kind, size = struct.unpack_from("!BH", data, place)
        place += 3 + size
        if place > len(data):
            raise ProxyHeaderError(f"the additional field 0x{kind:02x} runs past the header")
        found.append((kind, data[place - size : place]))
    return tuple(found)


def _check(tlvs: Iterable[Tlv], header: bytes) -> None:
    """The checksum, if one is there: over the whole header, with zeros in its own place (2.2.3)."""
    for kind, value in tlvs:
        if kind != CRC32C:
            continue
        if len(value) != 4:
            raise ProxyHeaderError(f"a checksum of {len(value)} octets, not 4")
        place = _place_of_checksum(header)
        if crc32c(header[:place] + bytes(4) + header[place + 4 :]) != int.from_bytes(value, "big"):
            raise ProxyHeaderError("the checksum is wrong")


def _place_of_checksum(header: bytes) -> int:
    place = _V2_FIXED + _ADDRESSES[_FAMILIES[header[len(SIGNATURE) + 1]][0]]
    while header[place] != CRC32C:
        place += 3 + int(struct.unpack_from("!H", header, place + 1)[0])
    return place + 3


def _tls(tlvs: Iterable[Tlv]) -> ProxyTls | None:
    value = next((value for kind, value in tlvs if kind == SSL), None)
    if value is None:
        return None
    if len(value) < 5:
        raise ProxyHeaderError(f"what it says of TLS has {len(value)} octets: too few")
    flags, verify = struct.unpack_from("!BI", value)
    if not flags & _CLIENT_SSL:
        return None
    said = dict(reversed(_tlvs(value[5:])))
    shown = bool(flags & (_CERT_CONN | _CERT_SESS)) and verify == 0
    texts = [said.get(kind, b"").decode("utf-8", "replace") for kind in (_SSL_VERSION, _SSL_CIPHER, _SSL_CN)]
    return ProxyTls(texts[0], texts[1], shown, texts[2] if shown else "")


# --- writing


def format_v1(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """A header of version 1 from addresses and ports. Raises ValueError for what is no IP address."""
    one, other = _same_family(source[0], destination[0])
    family = "TCP4" if one.version == 4 else "TCP6"
    return f"PROXY {family} {_text(one)} {_text(other)} {source[1]} {destination[1]}\r\n".encode("ascii")


def format_v2(
    source: tuple[str, int], destination: tuple[str, int], tlvs: Iterable[Tlv] = (), *, checksum: bool = False
) -> bytes:
    """A header of version 2 from addresses and ports. Raises ValueError for what is no IP address."""
    one, other = _same_family(source[0], destination[0])
    extra = b"".join([struct.pack("!BH", kind, len(value)) + value for kind, value in tlvs])
    if checksum:
        extra += struct.pack("!BHI", CRC32C, 4, 0)
    body = one.packed + other.packed + struct.pack("!HH", source[1], destination[1]) + extra
    header = SIGNATURE + struct.pack("!BBH", 0x21, 0x11 if one.version == 4 else 0x21, len(body)) + body
    return header[:-4] + struct.pack("!I", crc32c(header)) if checksum else header


def ssl_tlv(tls: ProxyTls) -> Tlv:
    """The additional field that says how the client's connection is encrypted (2.2.6)."""
    said = ((_SSL_VERSION, tls.version), (_SSL_CIPHER, tls.cipher), (_SSL_CN, tls.common_name))
    fields = [(kind, text.encode()) for kind, text in said if text]
    flags = _CLIENT_SSL | (_CERT_CONN | _CERT_SESS if tls.verified else 0)
    inner = b"".join([struct.pack("!BH", kind, len(value)) + value for kind, value in fields])
    return SSL, struct.pack("!BI", flags, 0 if tls.verified else 1) + inner


def _text(address: IPv4Address | IPv6Address) -> str:
    """As inet_ntop(3) and Python from 3.13 on have it: a mapped address ends in its dotted form."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return f"::ffff:{mapped}" if mapped else str(address)


def _same_family(one: str, other: str) -> tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address]:
    """Both in the family that holds both: IPv4 beside IPv6 is mapped."""
    addresses = ip_address(one.partition("%")[0]), ip_address(other.partition("%")[0])
    if addresses[0].version == addresses[1].version:
        return addresses
    first, second = (each if each.version == 6 else IPv6Address(f"::ffff:{each}") for each in addresses)
    return first, second


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for octet in range(256):
        rest = octet
        for _ in range(8):
            rest = rest >> 1 ^ (0x82F63B78 if rest & 1 else 0)
        table.append(rest)
    return tuple(table)


_CRC32C = _crc32c_table()


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum (RFC 3720 appendix B.4 has its test vectors)."""
    crc = 0xFFFFFFFF
    for octet in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFFFFFF
