"""A process that has no heartbeat because the machine is busy is not stuck."""

from __future__ import annotations

import os

import pytest

from smtpproxy.server.pulse import Pulse

BEFORE = Pulse("S", 10.0)


@pytest.mark.parametrize(
    ("now", "waits"),
    [
        (Pulse("R", 10.2), True),  # it would run, and others run instead
        (Pulse("R", 12.0), False),  # it works without end
        (Pulse("D", 10.0), True),  # a disk that is slow
        (Pulse("S", 10.0), False),  # it sleeps in a call that nobody ends
        (Pulse("", 0.0), False),
    ],
)
def test_who_waits(now: Pulse, waits: bool) -> None:
    assert now.waits(BEFORE) is waits


def test_a_name_may_hold_anything() -> None:
    stat = "7 (a) R 1 (b) c) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0"
    assert Pulse.parse(stat) == Pulse("S", 400 / os.sysconf("SC_CLK_TCK"))


def test_this_process_runs() -> None:
    assert Pulse.of(os.getpid()).state == "R"
    assert Pulse.of(0) == Pulse()
