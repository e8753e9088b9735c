"""How soon the next worker comes when one dies."""

from __future__ import annotations

import pytest

from smtpproxy.server.respawn import MOST, QUICK, Backoff


def wait(backoff: Backoff, now: float = 1000.0) -> float:
    """Seconds from now until one may start."""
    return next(tenths / 10 for tenths in range(400) if backoff.may_start(now + tenths / 10))


def test_the_first_one_is_replaced_at_once_and_the_next_ones_ever_later() -> None:
    backoff, waits = Backoff(), []
    for _ in range(5):
        backoff.died(1.0)
        waits.append(wait(backoff))
    assert waits == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.8])


def test_workers_that_die_young_for_hours_are_still_replaced_and_not_in_haste() -> None:
    backoff = Backoff()
    for _ in range(3000):
        backoff.died(0.1)
    assert wait(backoff) == pytest.approx(MOST)


def test_one_that_has_worked_for_a_while_is_replaced_at_once() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.died(0.1)
    backoff.died(QUICK)
    assert wait(backoff) == 0.0
