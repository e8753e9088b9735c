"""What time it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from smtpproxy.scripting.doors.base import Door, through


class Clock(Door):
    """What time it is; a test says so itself."""

    __slots__ = ()

    def now(self) -> float:
        """Seconds since the beginning of 1970."""

        def ask(now: Callable[[], float]) -> float:
            return now()

        return through("clock", "clock.now", ask)

    def date(self, format: str = "%Y-%m-%d") -> str:
        """The time of this machine's zone as `strftime` writes it: "%H:%M", "%A". Raises ValueError for another format."""

        def ask(now: Callable[[], float]) -> str:
            return time.strftime(format, time.localtime(now()))

        return through("clock", f"clock.date {format}", ask)
