"""Waiting for something to become true, with a deadline; a clock that stands still."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import gevent

from smtpproxy.config.values import Duration

T = TypeVar("T")


def until(condition: Callable[[], T], within: float = 10.0, what: str = "") -> T:
    """Ask until the condition is true, and return what it said. Raises AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what or condition}")
        gevent.sleep(0.01)
    return result


class FixedClock:
    """A clock that moves when it is told to: seconds since the epoch."""

    __slots__ = ("now",)

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, time: float | str) -> None:
        """Let time pass: seconds, or "2h"."""
        self.now += Duration.parse(time) if isinstance(time, str) else time
