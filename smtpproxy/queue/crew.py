"""Threads of the system's that do side by side what waits for a disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, cast

from gevent.monkey import get_original

Work = Callable[[], None]
T = TypeVar("T")


class _Queue(Protocol[T]):
    """A queue of the system's, not gevent's."""

    def put(self, item: T) -> None: ...
    def get(self) -> T: ...


class Crew:
    """At most so many threads, begun when there is work for them. Used by one thread."""

    __slots__ = ("_done", "_limit", "_threads", "_work")

    def __init__(self, threads: int) -> None:
        self._limit = threads
        self._threads = 0
        self._work: _Queue[Work | None] = _queue()
        self._done: _Queue[None] = _queue()

    def run(self, works: Sequence[Work]) -> None:
        """All of them, in any order; returns when the last is done. They raise nothing."""
        while self._threads < min(len(works), self._limit):
            self._threads += 1
            get_original("_thread", "start_new_thread")(self._serve, ())
        for work in works:
            self._work.put(work)
        for _ in works:
            self._done.get()

    def close(self) -> None:
        for _ in range(self._threads):
            self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            self._done.put(None)


def _queue() -> _Queue[T]:
    return cast("_Queue[T]", get_original("queue", "SimpleQueue")())
