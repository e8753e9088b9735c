"""The contract of a store, and how values are written.

Four kinds of thing, each with keys of its own: *values*, which numbers can be counted in; *sets*, whose members expire
one by one; *windows*, which count what happened within the last so many seconds; *leases*, which one holder has at a
time. Every operation is atomic, between greenlets and between processes, and blocks the greenlet that asks only.
Expiry is in seconds from now, `FOREVER` for none.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

FOREVER: Final = math.inf
SLICES: Final = 60
"""A window is counted in this many slices: an event is forgotten at most a slice too late, never too early."""

KEY_LIMIT: Final = 2048
VALUE_LIMIT: Final = 1 << 20
"""Octets of a key, and of a value as it is written."""

_DEPTH: Final = 20
_INTEGERS: Final = range(-(1 << 63), 1 << 63)


class StoreError(Exception):
    """The store cannot answer: its file cannot be opened, written or locked, its server cannot be reached, it is full."""


class Claim(NamedTuple):
    """Room that is asked for, in a window or in a set, of which `limit` is all there is (0: there is no end of it).

    `by` is how often something happened within `seconds`: 0 only asks whether there is room for one, a negative number
    gives room back. Or it is the name of who takes a place in a set, for so long.
    """

    key: str
    limit: int
    seconds: float
    by: int | str = 1


def asked_before(claims: Sequence[Claim], number: int) -> int:
    """How much those in front of a claim ask of the same window."""
    mine = claims[number]
    return sum(it.by for it in claims[:number] if isinstance(it.by, int) and (it.key, it.seconds) == (mine.key, mine.seconds))


class Store(Protocol):
    """Whatever keeps things: see the module. Methods raise StoreError; TypeError and ValueError for what cannot be kept."""

    def get(self, key: str) -> Any:
        """The value, None when there is none or it has expired."""

    def set(self, key: str, value: Any, expires: float = FOREVER) -> None:
        """Keep a plain value; None forgets it."""

    def increment(self, key: str, by: int = 1, expires: float = FOREVER) -> int:
        """Count in a value, from 0 when there is none; the new number. The expiry is that of its first count.

        Raises ValueError when the value is no whole number.
        """

    def add(self, key: str, member: str, expires: float = FOREVER) -> bool:
        """Put a member into a set, or renew its expiry; whether it was not there."""

    def remove(self, key: str, member: str) -> bool:
        """Take a member out; whether it was there."""

    def has(self, key: str, member: str) -> bool:
        """Whether the member is in the set."""

    def members(self, key: str) -> tuple[str, ...]:
        """All members, sorted."""

    def hit(self, key: str, window: float, by: int = 1) -> int:
        """Something happened `by` times; how often within the last `window` seconds, this included."""

    def hits(self, key: str, window: float) -> int:
        """How often it happened within the last `window` seconds."""

    def take(self, claims: Sequence[Claim]) -> int | None:
        """Count all of the claims, or none; the number (from 0) of the first that has no room, None when all have."""

    def lease(self, key: str, holder: str, seconds: float) -> bool:
        """Take or renew a lease for so long; False while somebody else has it."""

    def release(self, key: str, holder: str) -> bool:
        """Give a lease back; whether this holder had it."""

    def close(self) -> None:
        """Nothing is asked any more."""


def encode_key(text: str) -> bytes:
    """A key or member as octets. Raises TypeError and ValueError."""
    if not isinstance(text, str):
        raise TypeError(f"a key of the store is text, no {type(text).__name__}; use str(...)")
    octets = text.encode("utf-8", "surrogateescape")
    if len(octets) > KEY_LIMIT:
        raise ValueError(f"a key of the store has at most {KEY_LIMIT} octets")
    return octets


def decode_key(octets: bytes) -> str:
    """The text of a key or member."""
    return octets.decode("utf-8", "surrogateescape")


def encode(value: Any) -> int | bytes:
    """A plain value as an engine keeps it: whole numbers as they are, so that they can be counted in, the rest as JSON.

    Raises TypeError for what is not plain, ValueError for what is too large.
    """
    if type(value) is int and value in _INTEGERS:
        return value
    written = json.dumps(_packed(value, _DEPTH), separators=(",", ":")).encode()
    if len(written) > VALUE_LIMIT:
        raise ValueError(f"a value of the store has at most {VALUE_LIMIT >> 20} MB")
    return written


def decode(kept: int | bytes) -> Any:
    """The value that `encode` wrote; tuples have become lists."""
    return kept if isinstance(kept, int) else json.loads(kept, object_hook=_unpacked)


def whole(number: Any) -> int:
    """What is counted. Raises TypeError for anything but a whole number."""
    if type(number) is float and number.is_integer():
        number = int(number)
    if type(number) is not int or abs(number) > 1 << 53:
        raise TypeError(f"counts are whole numbers, not {number!r}")
    return number


def _packed(value: Any, depth: int) -> Any:
    """JSON has no octets, no sets and no keys but text: those are written as {"$type": ...}."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if depth == 0:
        raise TypeError(f"a value of the store may be nested {_DEPTH} deep")
    if isinstance(value, Mapping):
        pairs = [(_packed(key, 0), _packed(item, depth - 1)) for key, item in value.items()]
        if all(isinstance(key, str) and not key.startswith("$") for key, _ in pairs):
            return dict(pairs)
        return {"$dict": pairs}
    if isinstance(value, list | tuple):
        return [_packed(item, depth - 1) for item in value]
    if isinstance(value, set | frozenset):
        return {"$set": [_packed(item, 0) for item in value]}
    raise TypeError(f"the store keeps plain values, no {type(value).__name__}; use str(...) or a number")


def _unpacked(found: dict[str, Any]) -> Any:
    for mark, made in _UNPACKED.items():
        if mark in found:
            return made(found[mark])
    return found


_UNPACKED: Final[Mapping[str, Any]] = {"$bytes": base64.b64decode, "$set": set, "$dict": dict}
