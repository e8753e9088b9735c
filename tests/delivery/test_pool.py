"""The servers of a hand-off: connections kept, fail-over at once, nobody refused from memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import gevent
import pytest

from smtpproxy.delivery import pool as pool_module
from smtpproxy.delivery.pool import PATIENCE, NoUpstream, Pool
from smtpproxy.delivery.smtp import Timeouts, UpstreamLost
from smtpproxy.delivery.upstream import IDLE_SECONDS, REUSES, Upstream
from smtpproxy.testing.acts import DROP, HANG, Hold
from smtpproxy.testing.upstream import FakeUpstream
from smtpproxy.testing.waiting import FixedClock, until

To = Callable[..., Upstream]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "PATIENCE", 0.2)
    monkeypatch.setattr(pool_module, "PROBE_WAITS", (0.05,))


@pytest.fixture
def other() -> Iterator[FakeUpstream]:
    with FakeUpstream(hostname="other.example") as server:
        yield server


@pytest.fixture
def dead() -> int:
    """A port where nobody listens."""
    with FakeUpstream() as server:
        return server.port


def open_connections(server: FakeUpstream) -> int:
    return sum(not conversation.closed for conversation in server.conversations)


# -- connections that are kept -----------------------------------------------------------------------------------------


def test_a_connection_given_back_is_used_again(upstream: FakeUpstream, to: To) -> None:
    pool = Pool([to(upstream)])
    for _ in range(3):
        pool.keep(*pool.take())
    assert len(upstream.conversations) == 1


def test_two_at_a_time_are_two(upstream: FakeUpstream, to: To) -> None:
    pool = Pool([to(upstream)])
    first, second = pool.take(), pool.take()
    assert first[1] is not second[1]


def test_fresh_means_a_connection_of_ones_own(upstream: FakeUpstream, to: To) -> None:
    pool = Pool([to(upstream)])
    kept = pool.take()
    pool.keep(*kept)
    assert pool.take(fresh=True)[1] is not kept[1]


def test_a_kept_connection_that_died_is_not_given_out(upstream: FakeUpstream, to: To) -> None:
    pool = Pool([to(upstream)])
    kept = pool.take()
    pool.keep(*kept)
    upstream.hang_up()
    until(lambda: not kept[1].connection.quiet())
    _, smtp = pool.take()
    assert smtp is not kept[1]
    assert smtp.command(b"NOOP").code == 250


def test_a_kept_connection_on_which_the_server_spoke_is_not_given_out(upstream: FakeUpstream, to: To) -> None:
    upstream.on("NOOP", b"250 Ok\r\n421 4.4.2 Idle for too long\r\n")
    pool = Pool([to(upstream)])
    kept = pool.take()
    kept[1].command(b"NOOP")
    pool.keep(*kept)
    until(lambda: not kept[1].connection.quiet())
    assert pool.take()[1] is not kept[1]


def test_a_connection_at_rest_for_too_long_is_not_given_out(upstream: FakeUpstream, to: To, clock: FixedClock) -> None:
    pool = Pool([to(upstream)])
    kept = pool.take()
    pool.keep(*kept)
    clock.advance(IDLE_SECONDS)
    assert pool.take()[1] is not kept[1]


def test_idle_connections_are_left_with_quit(upstream: FakeUpstream, to: To, clock: FixedClock) -> None:
    server = to(upstream)
    pool = Pool([server])
    old = pool.take()
    young = pool.take()
    pool.keep(*old)
    clock.advance(IDLE_SECONDS - 1)
    pool.keep(*young)
    clock.advance(1)
    server.drop_idle()
    upstream.wait_for(lambda it: open_connections(it) == 1)
    assert upstream.commands.count("QUIT") == 1
    assert pool.take()[1] is young[1]


def test_a_connection_is_not_used_for_ever(upstream: FakeUpstream, to: To) -> None:
    pool = Pool([to(upstream)])
    kept = pool.take()
    kept[1].uses = REUSES
    pool.keep(*kept)
    assert pool.take()[1] is not kept[1]


def test_a_closed_pool_keeps_nothing(upstream: FakeUpstream, to: To) -> None:
    pool = Pool([to(upstream)])
    used, idle = pool.take(), pool.take()
    pool.keep(*idle)
    pool.close()
    pool.keep(*used)
    assert upstream.wait_for(lambda it: open_connections(it) == 0)


# -- fail-over ---------------------------------------------------------------------------------------------------------


def test_first_means_the_first_that_works(upstream: FakeUpstream, other: FakeUpstream, to: To) -> None:
    pool = Pool([to(upstream), to(other)])
    for _ in range(4):
        pool.keep(*pool.take())
    assert (len(upstream.conversations), len(other.conversations)) == (1, 0)


def test_a_refusing_first_server_costs_nothing(dead: int, other: FakeUpstream, to: To) -> None:
    pool = Pool([to(dead), to(other)])
    began = time.monotonic()
    assert pool.take()[0].target.port == other.port
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize("stage", ["greeting", "EHLO"])
def test_a_hanging_first_server_costs_the_patience_once(
    upstream: FakeUpstream, other: FakeUpstream, to: To, stage: str
) -> None:
    upstream.on(stage, HANG)
    events: list[str] = []
    pool = Pool([to(upstream), to(other)], on_change=lambda event, server: events.append(event))
    began = time.monotonic()
    taken = [pool.take(fresh=True)[0].target.port for _ in range(3)]
    assert taken == [other.port] * 3
    assert events == [f"failed: no reply within 0.2 s ({stage})"]
    assert time.monotonic() - began < pool.upstreams[0].timeouts.greeting


@pytest.mark.parametrize("act", ["554 5.3.2 No", "421 4.3.2 Later", DROP, b"nonsense\r\n"], ids=repr)
def test_a_server_that_greets_with_a_refusal_is_passed_over(
    upstream: FakeUpstream, other: FakeUpstream, to: To, act: object
) -> None:
    upstream.on("greeting", act)
    assert Pool([to(upstream), to(other)]).take()[0].target.port == other.port
    assert upstream.commands == []


def test_a_failed_server_is_looked_after_until_it_answers_again(
    upstream: FakeUpstream, other: FakeUpstream, to: To
) -> None:
    events: list[tuple[str, int]] = []
    upstream.on("greeting", DROP)
    pool = Pool([to(upstream), to(other)], on_change=lambda event, server: events.append((event, server.target.port)))
    assert pool.take()[0].target.port == other.port
    upstream.wait_for(lambda it: len(it.conversations) > 2)
    upstream.reset()
    until(lambda: ("alive again", upstream.port) in events)
    assert pool.take()[0].target.port == upstream.port


def test_a_slow_server_is_waited_for_when_no_other_is_left(upstream: FakeUpstream, dead: int, to: To) -> None:
    upstream.on("greeting", hold := Hold())
    gevent.spawn_later(0.4, hold.release)
    assert Pool([to(upstream), to(dead)]).take()[0].target.port == upstream.port


def test_the_only_server_has_all_its_time(upstream: FakeUpstream, to: To) -> None:
    upstream.on("greeting", hold := Hold())
    gevent.spawn_later(0.4, hold.release)
    assert Pool([to(upstream)]).take()


def test_all_down_names_each_with_its_reason(upstream: FakeUpstream, dead: int, to: To) -> None:
    upstream.on("greeting", "554 5.3.2 Closed for today")
    pool = Pool([to(dead), to(upstream)])
    with pytest.raises(NoUpstream) as caught:
        pool.take()
    assert f"127.0.0.1:{dead}: Connection refused" in str(caught.value)
    assert f"127.0.0.1:{upstream.port}: refused: 554 5.3.2 Closed for today" in str(caught.value)


def test_a_server_that_is_back_takes_the_very_next_message(dead: int, to: To) -> None:
    pool = Pool([to(dead)])
    with pytest.raises(NoUpstream):
        pool.take()
    with FakeUpstream(port=dead):
        assert pool.take()


def test_of_two_dead_ones_either_may_come_back(upstream: FakeUpstream, dead: int, to: To) -> None:
    pool = Pool([to(upstream), to(dead)])
    upstream.refuse_connections()
    with pytest.raises(NoUpstream):
        pool.take()
    with FakeUpstream(port=dead):
        assert pool.take()[0].target.port == dead


def test_a_server_that_answers_others_meanwhile_has_not_failed(upstream: FakeUpstream, other: FakeUpstream, to: To) -> None:
    server = to(upstream)
    pool = Pool([server, to(other)])
    upstream.on("greeting", hold := Hold(DROP), None)
    stuck = gevent.spawn(server.open)
    upstream.wait_for(lambda it: hold.reached.is_set())
    assert server.open()
    hold.release()
    with pytest.raises(UpstreamLost):
        stuck.get(timeout=15)
    assert not server.failed
    assert pool.take()[0] is server


def test_a_refused_opening_among_others_does_not_fail_a_server_that_serves(
    upstream: FakeUpstream, other: FakeUpstream, to: To
) -> None:
    server = to(upstream)
    pool = Pool([server, to(other)])
    held = pool.take()
    upstream.on("greeting", "421 4.7.0 Too many connections", None)
    assert pool.take()[0].target.port == other.port
    pool.keep(*held)
    assert pool.take()[1] is held[1]


# -- balance and limits ------------------------------------------------------------------------------------------------


def test_even_takes_all_in_turn(upstream: FakeUpstream, other: FakeUpstream, to: To) -> None:
    pool = Pool([to(upstream), to(other)], even=True)
    for _ in range(6):
        pool.take()
    assert (len(upstream.conversations), len(other.conversations)) == (3, 3)


def test_even_leaves_out_a_dead_one(upstream: FakeUpstream, dead: int, to: To) -> None:
    pool = Pool([to(dead), to(upstream)], even=True)
    assert [pool.take()[0].target.port for _ in range(4)] == [upstream.port] * 4


def test_no_more_connections_than_allowed_and_the_next_waits(upstream: FakeUpstream, to: To) -> None:
    pool = Pool([to(upstream, 2)])
    first, _second = pool.take(), pool.take()
    third = gevent.spawn(pool.take)
    for _ in range(3):
        assert first[1].command(b"NOOP").code == 250
    assert not third.ready()
    assert len(upstream.conversations) == 2
    pool.keep(*first)
    assert third.get(timeout=15)[1] is first[1]


def test_a_wait_for_a_connection_ends(upstream: FakeUpstream, clock: FixedClock) -> None:
    from smtpproxy.config.values import Target

    server = Upstream(Target("smtp", "127.0.0.1", upstream.port), Timeouts(), "mx.example.com", clock, 1)
    pool = Pool([server])
    pool.take()
    server.timeouts = Timeouts(connect=0.05)
    with pytest.raises(NoUpstream, match="in use"):
        pool.take()


def test_failures_give_their_slot_back(dead: int, to: To) -> None:
    pool = Pool([to(dead, 1)])
    for _ in range(3):
        with pytest.raises(NoUpstream, match="refused"):
            pool.take()


def test_dropped_and_left_connections_give_their_slot_back(upstream: FakeUpstream, to: To) -> None:
    pool = Pool([to(upstream, 1)])
    pool.drop(*pool.take())
    pool.leave(*pool.take())
    third = pool.take()[1]
    assert third.command(b"NOOP").code == 250
    assert upstream.wait_for(lambda it: open_connections(it) == 1)
    assert len(upstream.conversations) == 3


# -- what they offer ---------------------------------------------------------------------------------------------------


def test_nothing_is_announced_before_a_server_was_reached(upstream: FakeUpstream, to: To) -> None:
    assert Pool([to(upstream)]).announced() is None


def test_what_all_servers_offer_is_announced(upstream: FakeUpstream, to: To) -> None:
    with FakeUpstream(keywords=["PIPELINING", "SIZE 1000"]) as smaller:
        pool = Pool([to(upstream), to(smaller)])
        pool.probe_all()
        announced = pool.announced()
        assert announced is not None
        assert announced.size == 1000
        assert "8BITMIME" not in announced


def test_probing_keeps_the_connection_for_the_first_message(upstream: FakeUpstream, to: To) -> None:
    pool = Pool([to(upstream)])
    pool.probe_all()
    pool.take()
    assert len(upstream.conversations) == 1


def test_probing_survives_a_dead_server(upstream: FakeUpstream, dead: int, to: To) -> None:
    pool = Pool([to(dead), to(upstream)])
    pool.probe_all()
    assert pool.announced() is not None
