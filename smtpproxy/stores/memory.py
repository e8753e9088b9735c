"""A store in the memory of this process: nothing outlives it, no other process sees it."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from smtpproxy.stores.base import FOREVER, SLICES, Claim, StoreError, asked_before, decode, encode, encode_key, whole

LIMIT: Final = 1_000_000
"""Things that are kept at one time. What would be forgotten first makes room for what is new."""

_VALUE, _MEMBER, _HIT, _LEASE = range(4)
_AT_ONCE: Final = 20

_Place = tuple[int, bytes, bytes]


class _Item:
    """What is kept, and until when."""

    __slots__ = ("expires", "value")

    def __init__(self, value: int | bytes, expires: float) -> None:
        self.value = value
        self.expires = expires


class MemoryStore:
    """`clock` tells seconds. No method switches greenlets: each is atomic by that."""

    def __init__(self, clock: Callable[[], float] = time.time, limit: int = LIMIT) -> None:
        self._clock = clock
        self._limit = limit
        self._count = 0
        self._keys: dict[tuple[int, bytes], dict[bytes, _Item]] = {}
        self._expiring: list[tuple[float, _Place]] = []

    def __len__(self) -> int:
        """Things that are kept, expired ones that were not yet forgotten among them."""
        return self._count

    def get(self, key: str) -> Any:
        item = self._find(_VALUE, encode_key(key))
        return None if item is None else decode(item.value)

    def set(self, key: str, value: Any, expires: float = FOREVER) -> None:
        name = encode_key(key)
        if value is None:
            self._drop((_VALUE, name, b""))
        else:
            self._put((_VALUE, name, b""), encode(value), self._clock() + expires)

    def increment(self, key: str, by: int = 1, expires: float = FOREVER) -> int:
        name, number = encode_key(key), whole(by)
        item = self._find(_VALUE, name)
        if item is None:
            self._put((_VALUE, name, b""), number, self._clock() + expires)
            return number
        if not isinstance(item.value, int):
            raise ValueError(f"{key} holds no whole number: nothing can be counted in it")
        item.value += number
        return item.value

    def add(self, key: str, member: str, expires: float = FOREVER) -> bool:
        name, part = encode_key(key), encode_key(member)
        new = self._find(_MEMBER, name, part) is None
        self._put((_MEMBER, name, part), 1, self._clock() + expires)
        return new

    def remove(self, key: str, member: str) -> bool:
        name, part = encode_key(key), encode_key(member)
        there = self._find(_MEMBER, name, part) is not None
        self._drop((_MEMBER, name, part))
        return there

    def has(self, key: str, member: str) -> bool:
        return self._find(_MEMBER, encode_key(key), encode_key(member)) is not None

    def members(self, key: str) -> tuple[str, ...]:
        now = self._clock()
        parts = self._keys.get((_MEMBER, encode_key(key)), {})
        return tuple(sorted(part.decode("utf-8", "surrogateescape") for part, item in parts.items() if item.expires > now))

    def hit(self, key: str, window: float, by: int = 1) -> int:
        self._count_in(key, window, by)
        return self.hits(key, window)

    def _count_in(self, key: str, window: float, by: int) -> None:
        name, number = encode_key(f"{key}\n{window:g}"), whole(by)
        now, width = self._clock(), window / SLICES
        number_of_slice = int(now // width)
        part = b"%d" % number_of_slice
        item = self._find(_HIT, name, part)
        if item is None:
            self._put((_HIT, name, part), number, (number_of_slice + 1) * width + window)
        else:
            item.value += number  # type: ignore[operator]

    def hits(self, key: str, window: float) -> int:
        now = self._clock()
        slices = self._keys.get((_HIT, encode_key(f"{key}\n{window:g}")), {})
        return sum(int(item.value) for item in slices.values() if item.expires > now)

    def take(self, claims: Sequence[Claim]) -> int | None:
        for number, claim in enumerate(claims):
            if 0 < claim.limit < self._needed(claims, number):
                return number
        for key, _, seconds, by in claims:
            if isinstance(by, str):
                self.add(key, by, seconds)
            elif by:
                self._count_in(key, seconds, by)
        return None

    def _needed(self, claims: Sequence[Claim], number: int) -> int:
        """How much room there must be for a claim, with what is taken already."""
        key, _, seconds, by = claims[number]
        if isinstance(by, str):
            return len({*self.members(key), by})
        return self.hits(key, seconds) + max(by, 1) + asked_before(claims, number) if by >= 0 else 0

    def lease(self, key: str, holder: str, seconds: float) -> bool:
        name, who = encode_key(key), encode_key(holder)
        item = self._find(_LEASE, name)
        if item is not None and item.value != who:
            return False
        self._put((_LEASE, name, b""), who, self._clock() + seconds)
        return True

    def release(self, key: str, holder: str) -> bool:
        name = encode_key(key)
        item = self._find(_LEASE, name)
        if item is None or item.value != encode_key(holder):
            return False
        self._drop((_LEASE, name, b""))
        return True

    def close(self) -> None:
        """Nothing is held but memory."""

    def _find(self, kind: int, key: bytes, part: bytes = b"") -> _Item | None:
        item = self._keys.get((kind, key), {}).get(part)
        return item if item is not None and item.expires > self._clock() else None

    def _put(self, place: _Place, value: int | bytes, expires: float) -> None:
        kind, key, part = place
        parts = self._keys.get((kind, key))
        item = parts.get(part) if parts is not None else None
        if item is not None:
            item.value = value
        else:
            self._make_room()
            # forgetting may have taken the last part of this key
            self._keys.setdefault((kind, key), {})[part] = item = _Item(value, FOREVER)
            self._count += 1
        if expires != item.expires:
            item.expires = expires
            if expires != FOREVER:
                heapq.heappush(self._expiring, (expires, place))

    def _drop(self, place: _Place) -> None:
        kind, key, part = place
        parts = self._keys.get((kind, key))
        if parts is not None and parts.pop(part, None) is not None:
            self._count -= 1
            if not parts:
                del self._keys[kind, key]

    def _make_room(self) -> None:
        """Forget a few that have expired; when it is full, what expires next."""
        now = self._clock()
        for _ in range(_AT_ONCE):
            if not self._expiring or (self._expiring[0][0] > now and self._count < self._limit):
                break
            expires, place = heapq.heappop(self._expiring)
            item = self._keys.get(place[:2], {}).get(place[2])
            # another expiry has been set since: its own entry stands further back
            if item is not None and item.expires == expires:
                self._drop(place)
        if self._count >= self._limit:
            raise StoreError(f"the store in memory is full: {self._limit} things, and none of them expires soon")
