"""What every engine does alike."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from smtpproxy.stores.base import Claim, Store
from smtpproxy.testing.waiting import FixedClock


@pytest.mark.parametrize(
    "value",
    [
        0, 7, -(1 << 63), (1 << 63) - 1, 1.5, True, False, "", "text", "\u00e9\udcff", b"\x00\xff",
        [1, "a", [None]], {"a": {"b": [1]}}, {1: "one", "x": 2}, {"$set": 1}, {"a", "b"},
    ],
    ids=repr,
)  # fmt: skip
def test_a_value_comes_back_as_it_was(store: Store, value: Any) -> None:
    store.set("k", value)
    found = store.get("k")
    assert (found, type(found)) == (value, type(value))


def test_what_is_not_there_is_none(store: Store) -> None:
    assert store.get("k") is None
    assert store.members("k") == ()
    assert store.hits("k", 60) == 0
    assert not store.has("k", "m")


def test_none_forgets(store: Store) -> None:
    store.set("k", 1)
    store.set("k", None)
    assert store.get("k") is None


@pytest.mark.parametrize("value", [object(), {"a": object()}, {(1, 2): 3}])
def test_other_values_are_refused(store: Store, value: Any) -> None:
    with pytest.raises(TypeError):
        store.set("k", value)


def test_too_large_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="1 MB"):
        store.set("k", "x" * (1 << 20))
    with pytest.raises(ValueError, match="2048 octets"):
        store.set("k" * 3000, 1)


def test_a_value_expires(store: Store, clock: FixedClock) -> None:
    store.set("k", "v", 10)
    clock.advance(9.9)
    assert store.get("k") == "v"
    clock.advance(0.1)
    assert store.get("k") is None


def test_a_new_expiry_replaces_the_old_one(store: Store, clock: FixedClock) -> None:
    store.set("k", "v", 10)
    store.set("k", "v")
    clock.advance(1000)
    assert store.get("k") == "v"


class TestCounters:
    def test_count_from_zero(self, store: Store) -> None:
        assert [store.increment("k"), store.increment("k", 5), store.increment("k", -2)] == [1, 6, 4]
        assert store.get("k") == 4

    def test_the_expiry_is_that_of_the_first_count(self, store: Store, clock: FixedClock) -> None:
        store.increment("k", 1, 10)
        clock.advance(9)
        assert store.increment("k", 1, 10) == 2
        clock.advance(1)
        assert store.increment("k", 1, 10) == 1

    def test_go_on_from_a_number(self, store: Store) -> None:
        store.set("k", 41)
        assert store.increment("k") == 42

    def test_refuse_what_is_no_number(self, store: Store) -> None:
        store.set("k", "text")
        with pytest.raises(ValueError, match="holds no whole number"):
            store.increment("k")
        with pytest.raises(TypeError, match="whole numbers"):
            store.increment("n", 1.5)  # type: ignore[arg-type]

    def test_five_hundred_greenlets_lose_nothing(self, store: Store) -> None:
        def count(number: int) -> None:
            for _ in range(10):
                store.increment("all")
                store.increment(f"k{number % 7}")
                store.hit("window", 3600)

        gevent.joinall([gevent.spawn(count, number) for number in range(500)], raise_error=True)
        assert store.get("all") == 5000
        assert sum(store.get(f"k{number}") for number in range(7)) == 5000
        assert store.hits("window", 3600) == 5000


class TestWindows:
    def test_count_what_is_within(self, store: Store, clock: FixedClock) -> None:
        assert [store.hit("k", 60) for _ in range(3)] == [1, 2, 3]
        clock.advance(30)
        assert store.hit("k", 60, 4) == 7
        clock.advance(29)
        assert store.hits("k", 60) == 7
        clock.advance(2)
        assert store.hits("k", 60) == 4
        clock.advance(30)
        assert store.hits("k", 60) == 0

    def test_slide(self, store: Store, clock: FixedClock) -> None:
        counts = []
        for _ in range(200):
            counts.append(store.hit("k", 60))
            clock.advance(1)
        assert max(counts) in (60, 61)
        assert set(counts[70:]) <= {60, 61}

    def test_of_other_lengths_are_others(self, store: Store) -> None:
        store.hit("k", 60)
        assert store.hits("k", 3600) == 0


class TestClaims:
    def test_all_are_counted_or_none(self, store: Store) -> None:
        claims = [Claim("a", 3, 60), Claim("a", 10, 3600, 2), Claim("b", 2, 60)]
        assert [store.take(claims), store.take(claims), store.take(claims)] == [None, None, 2]
        assert (store.hits("a", 60), store.hits("a", 3600), store.hits("b", 60)) == (2, 4, 2)

    def test_several_at_once_need_room_for_all(self, store: Store) -> None:
        assert store.take([Claim("k", 10, 60, 8)]) is None
        assert store.take([Claim("k", 10, 60, 3)]) == 0
        assert store.take([Claim("k", 10, 60, 2)]) is None

    def test_claims_to_the_same_window_add_up(self, store: Store) -> None:
        assert store.take([Claim("k", 3, 60, 2), Claim("k", 3, 60, 2)]) == 1
        assert store.take([Claim("k", 0, 60, 2), Claim("k", 3, 60, 2), Claim("l", 1, 60)]) == 1
        assert store.take([Claim("k", 3, 60, 2), Claim("k", 3, 60, 1)]) is None

    def test_zero_asks_whether_there_is_room_for_one(self, store: Store) -> None:
        assert [store.take([Claim("k", 1, 60, 0)]), store.take([Claim("k", 1, 60, 0)])] == [None, None]
        store.hit("k", 60)
        assert store.take([Claim("k", 1, 60, 0)]) == 0

    def test_what_was_given_back_can_be_taken_again(self, store: Store) -> None:
        store.take([Claim("k", 2, 60, 2)])
        assert store.take([Claim("k", 2, 60, -1)]) is None
        assert [store.take([Claim("k", 2, 60)]), store.take([Claim("k", 2, 60)])] == [None, 0]

    def test_no_limit_is_no_limit(self, store: Store) -> None:
        assert store.take([Claim("k", 0, 60, 1000)]) is None
        assert store.hits("k", 60) == 1000

    def test_there_is_room_again_when_the_window_has_moved_on(self, store: Store, clock: FixedClock) -> None:
        store.take([Claim("k", 1, 60)])
        assert store.take([Claim("k", 1, 60)]) == 0
        clock.advance(62)
        assert store.take([Claim("k", 1, 60)]) is None

    def test_a_name_has_one_place_until_it_leaves_or_its_time_is_over(self, store: Store, clock: FixedClock) -> None:
        a, b, c = (Claim("k", 2, 60, name) for name in "abc")
        assert [store.take([a]), store.take([a]), store.take([b]), store.take([c])] == [None, None, None, 0]
        store.remove("k", "a")
        assert store.take([c]) is None
        clock.advance(61)
        assert store.take([a]) is None
        assert store.members("k") == ("a",)

    def test_greenlets_do_not_take_the_same_room(self, store: Store) -> None:
        taken = [gevent.spawn(store.take, [Claim("k", 50, 60), Claim("l", 0, 60)]) for _ in range(200)]
        gevent.joinall(taken, raise_error=True)
        assert [it.value for it in taken].count(None) == store.hits("l", 60) == 50


class TestSets:
    def test_members(self, store: Store) -> None:
        assert store.add("k", "b")
        assert store.add("k", "a")
        assert not store.add("k", "a")
        assert store.members("k") == ("a", "b")
        assert store.has("k", "a")
        assert store.remove("k", "a")
        assert not store.remove("k", "a")
        assert store.members("k") == ("b",)

    def test_a_member_expires_by_itself(self, store: Store, clock: FixedClock) -> None:
        store.add("k", "a", 10)
        store.add("k", "b", 20)
        clock.advance(10)
        assert store.members("k") == ("b",)
        assert store.add("k", "a", 10)

    def test_adding_again_renews(self, store: Store, clock: FixedClock) -> None:
        store.add("k", "a", 10)
        clock.advance(9)
        store.add("k", "a", 10)
        clock.advance(9)
        assert store.has("k", "a")


class TestLeases:
    def test_one_holder_at_a_time(self, store: Store, clock: FixedClock) -> None:
        assert store.lease("k", "one", 10)
        assert not store.lease("k", "two", 10)
        clock.advance(9)
        assert store.lease("k", "one", 10)
        clock.advance(9)
        assert not store.lease("k", "two", 10)
        clock.advance(1)
        assert store.lease("k", "two", 10)
        assert not store.lease("k", "one", 10)

    def test_given_back(self, store: Store) -> None:
        store.lease("k", "one", 10)
        assert not store.release("k", "two")
        assert store.release("k", "one")
        assert not store.release("k", "one")
        assert store.lease("k", "two", 10)


def test_kinds_do_not_meet(store: Store) -> None:
    store.set("k", "v")
    store.add("k", "m")
    store.hit("k", 60)
    store.lease("k", "one", 60)
    store.set("k", None)
    assert store.members("k") == ("m",)
    assert store.hits("k", 60) == 1
    assert not store.lease("k", "two", 60)


def test_keys_may_hold_any_octet(store: Store) -> None:
    store.set("a\x00\udcff\n", 1)
    store.add("k", "m\udcfe")
    assert store.get("a\x00\udcff\n") == 1
    assert store.get("a\x00") is None
    assert store.members("k") == ("m\udcfe",)
