"""What is written down of a mail when it is taken; it never changes afterwards.

Four octets of CRC-32, then MessagePack, with a version of its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

VERSION: Final = 1
_CRC: Final = 4


class Damaged(Exception):
    """A record or a body is not what was written; str() says how."""


class Party(Struct, omit_defaults=True):
    """An address as the envelope has it (RFC 5321 4.1.2, without brackets), and its ESMTP parameters."""

    path: str
    params: dict[str, str | None] = {}
    notes: dict[str, Any] = {}
    """What rules have noted about it, see queue/noted.py."""

    @property
    def domain(self) -> str:
        """In lower case; empty for the bare <postmaster> and the null path."""
        return self.path.rpartition("@")[2].lower() if "@" in self.path else ""


class Envelope(Struct, omit_defaults=True):
    """`time` is in seconds since the epoch, `size` in octets, `crc` the CRC-32 of the body's content form."""

    id: str
    time: float
    sender: Party
    recipients: list[Party]
    handoff: str = ""
    listener: str = ""
    """Where it came in: whose rules are asked about its deliveries."""
    client: dict[str, str] = {}
    name: str = ""
    """Of the body. Made by us, never by a peer."""
    size: int = 0
    crc: int = 0
    dotted: bool = True
    """A line of the body may begin with a dot."""
    notes: dict[str, Any] = {}
    results: list[tuple[str, str, dict[str, Any]]] = []
    """Of checks: name, word, and what they said besides."""
    release: float = 0.0
    """When it is to be sent at the earliest (RFC 4865)."""
    priority: int = 0
    """From -9 to 9 (RFC 6710)."""
    version: int = VERSION

    binary = False

    @property
    def params(self) -> Mapping[str, str | None]:
        """Of MAIL."""
        return self.sender.params

    @property
    def due(self) -> float:
        """When it is sent first; from there its lifetime counts."""
        return max(self.time, self.release)

    @property
    def size_declared(self) -> int:
        return self.size

    @property
    def smtputf8(self) -> bool:
        return "SMTPUTF8" in self.sender.params

    @property
    def body8bit(self) -> bool:
        return (self.sender.params.get("BODY") or "").upper() == "8BITMIME"


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def encode(envelope: Envelope) -> bytes:
    data = _encoder.encode(_octets(envelope))
    return zlib.crc32(data).to_bytes(_CRC) + data


def decode(data: bytes) -> Envelope:
    """Raises Damaged."""
    if not isinstance(data, bytes) or zlib.crc32(data[_CRC:]).to_bytes(_CRC) != data[:_CRC]:
        raise Damaged("its record is not what was written")
    try:
        envelope = _decoder.decode(data[_CRC:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"its record cannot be read: {error}") from None
    if envelope.version > VERSION:
        raise Damaged(f"its record is of version {envelope.version}, this release knows {VERSION}")
    return envelope


def _octets(envelope: Envelope) -> Envelope:
    """Octets of a peer's that are no UTF-8 stand as surrogates in text, and cannot be written: none are in an address that
    the grammar took (RFC 6531 3.3), and elsewhere a question mark does."""
    client = {name: text.encode("utf-8", "replace").decode() for name, text in envelope.client.items()}
    envelope.client = client
    return envelope
