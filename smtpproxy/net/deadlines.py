"""One kept timer per connection, re-armed by an attribute, instead of a Timeout object per read.

Setting a deadline costs two attribute writes; the timer itself is touched only when it fires or when a deadline comes
earlier than the timer would (0.07 us then, against 1.8 us for gevent.Timeout and 3 us for settimeout).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent import get_hub

NEVER = float("inf")


def from_now(seconds: float) -> float:
    """The moment, as ``Deadline.now`` counts, that is so many seconds away; 0 is never."""
    moment: float = get_hub().loop.now() + seconds if seconds else NEVER
    return moment


class Expired(OSError):
    """The time for a wait is over."""


class Deadline:
    """Throws ``Expired`` into the greenlet that waits, when the time it asked for is over.

    ``waiting``: who waits; set to None when it has what it waited for.
    ``limit``: a moment (``now``) past which no wait goes on, however long it may take by itself.
    """

    __slots__ = ("_fires", "_loop", "_timer", "_until", "limit", "now", "waiting")

    def __init__(self) -> None:
        self._loop = get_hub().loop
        self._timer: Any = None
        self._fires = NEVER
        self._until = 0.0
        self.limit = NEVER
        self.now: Callable[[], float] = self._loop.now
        """Seconds, as the loop counts them: when its present turn began."""
        self.waiting: Any = None

    def arm(self, greenlet: Any, seconds: float) -> None:
        """``greenlet`` begins to wait for at most ``seconds``."""
        now = self.now()
        until = now + seconds
        if until > self.limit:
            until = self.limit
        self._until = until
        self.waiting = greenlet
        if until < self._fires:
            self._start(until - now)

    def interrupt(self, error: BaseException) -> None:
        """End the wait with ``error``, if there is one; called from another greenlet."""
        self._loop.run_callback(self._interrupt, error)

    def _interrupt(self, error: BaseException) -> None:
        waiting, self.waiting = self.waiting, None  # not earlier: by now it may wait for something else, or no more
        if waiting is not None:
            waiting.throw(error)

    def close(self) -> None:
        """Give the timer back to the loop; ``arm`` makes a new one."""
        self.waiting = None
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
            self._fires = NEVER

    def _start(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
        self._timer = self._loop.timer(max(seconds, 0.0), ref=False)
        self._fires = self._loop.now() + seconds
        self._timer.start(self._fired)

    def _fired(self) -> None:
        if self.waiting is None:
            self.close()
            return
        left = self._until - self._loop.now()
        if left > 0.001:
            self._start(left)
            return
        waiting = self.waiting
        self.close()
        waiting.throw(Expired("timed out"))
