"""What rules keep in the memory of this process: gone with it, and earlier when room is needed."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from smtpproxy.scripting.doors.base import Door, Seconds, rule_name, running_call, seconds, through, weigh
from smtpproxy.stores.base import FOREVER

LIMIT: Final = 64 << 20
"""Octets that all rules keep together."""
ENTRIES: Final = 200_000

_OVERHEAD: Final = 60
_DEPTH: Final = 20


class Kept:
    """The memory behind the door: what was used longest ago makes room. `clock` tells seconds."""

    __slots__ = ("_clock", "_entries", "_limit", "size")

    def __init__(self, clock: Callable[[], float] = time.monotonic, limit: int = LIMIT) -> None:
        self._clock = clock
        self._limit = limit
        self._entries: OrderedDict[str, tuple[Any, int, float]] = OrderedDict()
        self.size = 0

    def get(self, key: str) -> Any:
        """The value, None when it is not there any more."""
        found = self._entries.get(key)
        if found is None:
            return None
        if found[2] <= self._clock():
            self.forget(key)
            return None
        self._entries.move_to_end(key)
        return found[0]

    def set(self, key: str, value: Any, expires: float = FOREVER) -> None:
        """Keep a frozen copy. Raises TypeError for what is not plain, ValueError for what is larger than a quarter of all."""
        self.forget(key)
        copy, size = frozen(value)
        size += len(key)
        if size > self._limit // 4:
            raise ValueError(f"the cache keeps values of {self._limit // 4} octets at most; this one needs {size}")
        self._entries[key] = copy, size, self._clock() + expires
        self.size += size
        while self.size > self._limit or len(self._entries) > ENTRIES:
            _, (_, freed, _) = self._entries.popitem(last=False)
            self.size -= freed

    def forget(self, key: str) -> None:
        """It may not be there."""
        found = self._entries.pop(key, None)
        if found is not None:
            self.size -= found[1]


class Cache(Door):
    """What this rule keeps in memory: get() gives it back until it expires, or until others need the room.

    Values are plain, and frozen: lists come back as tuples, tables cannot be changed. `cache.shared` is the same for all
    rules together. A cache is the process's own: what must be exact or last belongs into `store`.
    """

    __slots__ = ("_shared",)

    def __init__(self, shared: bool = False) -> None:
        self._shared = shared

    @property
    def shared(self) -> Cache:
        """What all rules see."""
        return Cache(shared=True)

    def get(self, key: str) -> Any:
        """The value, None when it is not there (any more)."""
        return through("cache", f"cache.get {key}", lambda kept: kept.get(self._place(key)))

    def set(self, key: str, value: Any, expires: Seconds | None = None) -> None:
        """Keep a plain value, for so long at most; None forgets it."""
        place, until = self._place(key), seconds(expires)
        if value is None:
            through("cache", f"cache.set {key}", lambda kept: kept.forget(place))
        else:
            weigh(value, "the cache", LIMIT // 4)
            through("cache", f"cache.set {key}", lambda kept: kept.set(place, value, until))

    def _place(self, key: str) -> str:
        if not isinstance(key, str):
            raise TypeError(f"a key of the cache is text, no {type(key).__name__}; use str(...)")
        return f"shared/{key}" if self._shared else f"rule/{rule_name(running_call('cache'))}/{key}"


def frozen(value: Any, depth: int = _DEPTH) -> tuple[Any, int]:
    """A copy that nobody can change, and about how many octets it takes. Raises TypeError for what is not plain."""
    if value is None or isinstance(value, bool | int | float):
        return value, _OVERHEAD
    if isinstance(value, str | bytes):
        return value, _OVERHEAD + len(value)
    if depth == 0:
        raise TypeError(f"a value of the cache may be nested {_DEPTH} deep")
    if isinstance(value, Mapping):
        table = {key: frozen(item, depth - 1) for key, item in value.items()}
        size = sum(frozen(key, 0)[1] + size for key, (_, size) in table.items())
        return MappingProxyType({key: copy for key, (copy, _) in table.items()}), _OVERHEAD + size
    if isinstance(value, list | tuple | set | frozenset):
        parts = [frozen(item, depth - 1) for item in value]
        kind = frozenset if isinstance(value, set | frozenset) else tuple
        return kind(copy for copy, _ in parts), _OVERHEAD + sum(size for _, size in parts)
    raise TypeError(f"the cache keeps plain values, no {type(value).__name__}; use str(...) or a number")
