"""How soon a worker that has died is replaced."""

from __future__ import annotations

QUICK = 10.0
"""Seconds: a worker that lived longer has worked, the next one comes at once."""
FIRST = 0.1
MOST = 30.0
DOUBLINGS = 10
"""After so many it is MOST in any case."""


class Backoff:
    """At once after the first death, then after ever longer waits while workers die young. All times in seconds."""

    __slots__ = ("_deaths", "_until", "_wait")

    def __init__(self) -> None:
        self._deaths = 0
        self._wait = 0.0
        self._until = 0.0

    def died(self, age: float) -> None:
        """A worker of this age has died."""
        self._deaths = self._deaths + 1 if age < QUICK else 1
        self._wait = 0.0 if self._deaths == 1 else min(FIRST * 2.0 ** min(self._deaths - 2, DOUBLINGS), MOST)

    def may_start(self, now: float) -> bool:
        """Whether the wait since the last death is over; asked at every turn of the master's."""
        if self._wait:
            self._until, self._wait = now + self._wait, 0.0
        return now >= self._until
