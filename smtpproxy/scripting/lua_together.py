"""What the functions of one `together()` in Lua ask: all at the same time, answered in the order in which answers come."""

from __future__ import annotations

import contextvars
import functools
from collections import deque
from collections.abc import Callable
from typing import Any

from gevent.event import Event
from gevent.pool import Pool

from smtpproxy.scripting.facade import TOGETHER_LIMIT


class Gathering:
    """`park` and `take` touch memory only; `wait` is what the driver of the lane calls."""

    __slots__ = ("_finished", "_outcomes", "_parked", "_pool", "_there")

    def __init__(self) -> None:
        self._parked: deque[tuple[int, str, Callable[[], Any]]] = deque()
        self._finished: deque[int] = deque()
        self._outcomes: dict[int, tuple[str, Any, Exception | None]] = {}
        self._there = Event()
        self._pool = Pool(TOGETHER_LIMIT)

    def park(self, index: int, name: str, function: Callable[[], Any]) -> None:
        """The function of this number waits for the answer to a question."""
        self._parked.append((index, name, function))

    def wait(self) -> int:
        """Ask what is not asked yet; the number of one that has its answer."""
        try:
            while self._parked and self._pool.free_count() > 0:
                ask = functools.partial(self._ask, *self._parked.popleft())
                self._pool.spawn(contextvars.copy_context().run, ask)
            self._there.wait()
        except BaseException:
            self.end()
            raise
        index = self._finished.popleft()
        if not self._finished:
            self._there.clear()
        return index

    def take(self, index: int) -> tuple[str, Any, Exception | None]:
        """The question's name, its answer, or the error that there was instead."""
        return self._outcomes.pop(index)

    def end(self) -> None:
        """Nobody waits for what is still asked. Does not switch."""
        self._parked.clear()
        self._pool.kill(block=False)

    def _ask(self, index: int, name: str, function: Callable[[], Any]) -> None:
        try:
            self._outcomes[index] = name, function(), None
        except Exception as error:
            self._outcomes[index] = name, None, error
        self._finished.append(index)
        self._there.set()
