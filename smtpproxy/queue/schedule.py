"""When a mail is tried again, and when that has an end. Times are seconds since the epoch, waits seconds."""

from __future__ import annotations

from collections.abc import Sequence


class Schedule:
    """`waits` between the attempts, of which the last repeats, for as long as `lifetime`; `of_notices` where nobody is told."""

    __slots__ = ("lifetime", "of_notices", "waits")

    def __init__(self, waits: Sequence[float], lifetime: float, of_notices: float) -> None:
        self.waits = tuple(waits)
        self.lifetime = lifetime
        self.of_notices = min(of_notices, lifetime)

    def next(self, attempts: int, taken: float, now: float, notice: bool = False) -> float | None:
        """The time of the next attempt after so many, None for none: the one at the end of the lifetime was the last.

        `notice`: it has the null sender (RFC 5321 4.5.5).
        """
        end = taken + (self.of_notices if notice else self.lifetime)
        if now >= end:
            return None
        return min(now + self.waits[min(attempts, len(self.waits)) - 1], max(end, now + 1.0))

    @property
    def longest(self) -> float:
        return max(self.waits)
