"""What rules keep beyond a session, a process and a restart."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from smtpproxy.scripting.doors.base import Door, Seconds, rule_name, running_call, seconds, through, weigh
from smtpproxy.stores import base

LIMIT: Final = 32 << 20
"""Octets of a value before it is written out, about."""

T = TypeVar("T")


class Store(Door):
    """What this rule keeps for later: values, counts, sets and leases, each with expiry; every call is atomic.

    `store.shared` is the same for all rules together. Raises StoreError when the store cannot answer.
    """

    __slots__ = ("_shared",)

    def __init__(self, shared: bool = False) -> None:
        self._shared = shared

    @property
    def shared(self) -> Store:
        """What all rules see."""
        return Store(shared=True)

    def get(self, key: str) -> Any:
        """The value, None when there is none (any more)."""
        return self._ask("get", key, lambda store, key: store.get(key))

    def set(self, key: str, value: Any, expires: Seconds | None = None) -> None:
        """Keep a plain value, for so long; None forgets it."""
        until = seconds(expires)
        weigh(value, "the store", LIMIT)
        self._ask("set", key, lambda store, key: store.set(key, value, until))

    def increment(self, key: str, by: int = 1, expires: Seconds | None = None) -> int:
        """Count, from 0 when there is no value; the new number. It expires so long after its first count."""
        until = seconds(expires)
        return self._ask("increment", key, lambda store, key: store.increment(key, by, until))

    def hit(self, key: str, within: Seconds, by: int = 1) -> int:
        """Something happened; how often within the last "1h", say, this included (a sliding window)."""
        window = seconds(within, "within")
        return self._ask("hit", key, lambda store, key: store.hit(key, window, by))

    def hits(self, key: str, within: Seconds) -> int:
        """How often it happened within the last "1h", say."""
        window = seconds(within, "within")
        return self._ask("hits", key, lambda store, key: store.hits(key, window))

    def take(self, claims: Sequence[Sequence[Any]]) -> Sequence[Any] | None:
        """Ask for room in several places at once: all of it is taken, or none; what has no room is given back, None if all has.

        A claim is (key, limit, within), or (key, limit, within, by). `by` is a number that is counted in a sliding window,
        as hit() does: 0 only asks whether there is room for one, a negative number gives back. Or it is a name that takes
        a place in a set, as add() does, until remove() or for as long as `within` says. With a limit of 0 there is always room.
        """
        wanted = [_claim(*claim) for claim in claims]
        words = " ".join(["store.take", *(claim.key for claim in wanted)])
        placed = [claim._replace(key=self._place(claim.key)) for claim in wanted]
        number = through("store", words, lambda store: store.take(placed))
        return None if number is None else claims[number]

    def add(self, key: str, member: object, expires: Seconds | None = None) -> bool:
        """Put a member into a set, or renew its expiry; whether it was new."""
        until = seconds(expires)
        return self._ask("add", key, lambda store, key: store.add(key, str(member), until), member)

    def remove(self, key: str, member: object) -> bool:
        """Take a member out of a set; whether it was there."""
        return self._ask("remove", key, lambda store, key: store.remove(key, str(member)), member)

    def has(self, key: str, member: object) -> bool:
        """Whether a set has this member."""
        return self._ask("has", key, lambda store, key: store.has(key, str(member)), member)

    def members(self, key: str) -> tuple[str, ...]:
        """All members of a set, sorted."""
        return self._ask("members", key, lambda store, key: store.members(key))

    def lease(self, key: str, length: Seconds) -> bool:
        """Be the only process that has this, for so long; False while another one has it."""
        until = seconds(length, "a lease")
        return self._ask("lease", key, lambda store, key: store.lease(key, holder(), until))

    def release(self, key: str) -> bool:
        """Give a lease back; whether this process had it."""
        return self._ask("release", key, lambda store, key: store.release(key, holder()))

    def _ask(self, question: str, key: str, ask: Callable[[base.Store, str], T], member: object = None) -> T:
        if not isinstance(key, str):
            raise TypeError(f"a key of the store is text, no {type(key).__name__}; use str(...)")
        place = self._place(key)
        words = f"store.{question} {key}" if member is None else f"store.{question} {key} {member}"
        return through("store", words, lambda store: ask(store, place))

    def _place(self, key: str) -> str:
        return f"shared/{key}" if self._shared else f"rule/{rule_name(running_call('store'))}/{key}"


def _claim(key: str, limit: int, within: Seconds, by: int | str = 1) -> base.Claim:
    if not isinstance(key, str):
        raise TypeError(f"a key of the store is text, no {type(key).__name__}; use str(...)")
    return base.Claim(key, base.whole(limit), seconds(within, "within"), by if isinstance(by, str) else base.whole(by))


def holder() -> str:
    """This process, as other processes and other machines tell it from themselves."""
    return f"{socket.gethostname()}:{os.getpid()}"
