"""When a mail is tried again, and when that has an end. Times are seconds since the epoch, waits seconds."""

from __future__ import annotations

from collections.abc import Sequence


class Schedule:
    """`waits` between the attempts, of which the last repeats, for as long as `lifetime`."""

    __slots__ = ("lifetime", "waits")

    def __init__(self, waits: Sequence[float], lifetime: float) -> None:
        self.waits = tuple(waits)
        self.lifetime = lifetime

    def next(self, attempts: int, taken: float, now: float) -> float | None:
        """The time of the next attempt after so many, None for none: the one at the end of the lifetime was the last."""
        end = taken + self.lifetime
        if now >= end:
            return None
        return min(now + self.waits[min(attempts, len(self.waits)) - 1], max(end, now + 1.0))

    @property
    def longest(self) -> float:
        return max(self.waits)
