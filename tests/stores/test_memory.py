"""How much memory the store in memory takes."""

from __future__ import annotations

import pytest

from smtpproxy.stores.base import StoreError
from smtpproxy.stores.memory import MemoryStore
from smtpproxy.testing.waiting import FixedClock


def test_what_has_expired_is_forgotten_as_new_things_come() -> None:
    clock = FixedClock()
    store = MemoryStore(clock)
    for number in range(1000):
        store.set(f"k{number}", 1, 10)
        store.add("set", f"m{number}", 10)
        clock.advance(1)
    assert len(store) < 30


def test_full_it_forgets_what_expires_next() -> None:
    store = MemoryStore(FixedClock(), limit=3)
    store.set("forever", 1)
    store.set("late", 1, 100)
    store.set("soon", 1, 10)
    store.set("new", 1, 50)
    assert [store.get(key) for key in ("forever", "late", "soon", "new")] == [1, 1, None, 1]


def test_full_of_what_never_expires_it_says_so() -> None:
    store = MemoryStore(FixedClock(), limit=2)
    store.set("a", 1)
    store.set("b", 1)
    with pytest.raises(StoreError, match="full"):
        store.set("c", 1)
    assert store.increment("a") == 2
