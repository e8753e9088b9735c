"""Work that holds a processor for long, done beside the hub: the greenlet that asks waits, nobody else does."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from gevent.threadpool import ThreadPool

THREADS = 2
WAITING = 50
"""Who asks while so many wait is told to come back: guessing passwords must not fill the memory."""

T = TypeVar("T")


class Busy(Exception):
    """So many wait already that the answer would come too late."""


class Hashing:
    """Bounded threads of one process, made when they are needed first; `secret` is the same in all processes of an instance."""

    __slots__ = ("_pool", "_waiting", "secret")

    def __init__(self, secret: bytes = b"") -> None:
        self.secret = secret or os.urandom(32)
        self._pool: ThreadPool | None = None
        self._waiting = 0

    def run(self, function: Callable[..., T], *arguments: object) -> T:
        """What `function` returns or raises; it runs in a thread. Raises ``Busy``."""
        if self._waiting >= WAITING:
            raise Busy("too many logins at one time")
        if self._pool is None:
            self._pool = ThreadPool(THREADS)
        self._waiting += 1
        try:
            found: T = self._pool.apply(function, arguments)
            return found
        finally:
            self._waiting -= 1
