"""When a mail is tried again."""

from __future__ import annotations

import pytest

from smtpproxy.queue.schedule import Schedule

TAKEN = 1_000_000.0
SCHEDULE = Schedule([60, 600], 3600, 1800)


@pytest.mark.parametrize(("attempts", "wait"), [(1, 60), (2, 600), (3, 600), (50, 600)])
def test_the_last_wait_repeats(attempts: int, wait: float) -> None:
    assert SCHEDULE.next(attempts, TAKEN, TAKEN + 10) == TAKEN + 10 + wait


def test_there_is_an_attempt_at_the_end_of_the_lifetime() -> None:
    assert SCHEDULE.next(9, TAKEN, TAKEN + 3500) == TAKEN + 3600


@pytest.mark.parametrize("age", [3600, 3700, 1e9])
def test_and_none_after_it(age: float) -> None:
    assert SCHEDULE.next(9, TAKEN, TAKEN + age) is None


def test_a_clock_that_went_back_costs_one_wait() -> None:
    assert SCHEDULE.next(1, TAKEN, TAKEN - 86400) == TAKEN - 86400 + 60


def test_a_notice_is_given_up_sooner() -> None:
    assert SCHEDULE.next(9, TAKEN, TAKEN + 1700, notice=True) == TAKEN + 1800
    assert SCHEDULE.next(9, TAKEN, TAKEN + 1800, notice=True) is None


def test_but_never_later_than_other_mail() -> None:
    assert Schedule([60], 100, 3600).next(1, TAKEN, TAKEN + 100, notice=True) is None
