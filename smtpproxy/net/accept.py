"""The accept loop of the house: plain sockets, reused greenlets, its own count of slots.

gevent's StreamServer costs a gevent socket and a fresh greenlet per connection (12 to 15 us for the mmap of its frame
stack alone on CPython 3.11); here a greenlet that has ended its session waits for the next one.
"""

from __future__ import annotations

import _socket
import contextvars
from collections.abc import Callable
from typing import Any

import gevent
from gevent import get_hub
from greenlet import getcurrent

BATCH = 64
_EMFILE_PAUSE = 0.1
_IDLE_GREENLETS = 512

Handler = Callable[[_socket.socket, tuple[str, int]], None]


class GreenletPool:
    """Runs callables in greenlets that are kept when they end; each run gets a fresh context (contextvars)."""

    __slots__ = ("_idle", "_loop", "busy", "called")

    def __init__(self) -> None:
        self._idle: list[Any] = []
        self._loop = get_hub().loop
        self.busy: set[Any] = set()
        """The greenlets that run something now."""
        self.called = 0
        """How many were given something that they have not begun."""

    def empty(self) -> bool:
        """Nothing runs, and nothing is about to."""
        return not self.busy and not self.called

    def spawn(self, function: Callable[..., None], *arguments: Any) -> None:
        self.called += 1
        if self._idle:
            self._loop.run_callback(self._idle.pop().switch, function, arguments)
        else:
            gevent.spawn_raw(self._work, function, arguments)

    def _work(self, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        current = getcurrent()
        while True:
            self.called -= 1
            self.busy.add(current)
            try:
                contextvars.Context().run(function, *arguments)
            except gevent.GreenletExit:
                pass
            finally:
                self.busy.discard(current)
            del function, arguments  # an idle greenlet holds nothing of its last session
            if len(self._idle) >= _IDLE_GREENLETS:
                return
            self._idle.append(current)
            function, arguments = get_hub().switch()


class Acceptor:
    """Accepts on one bound and listening socket and hands each connection to ``handler`` in a pooled greenlet."""

    __slots__ = ("_batch", "_handler", "_pool", "_resume", "_socket", "_watcher", "family")

    def __init__(self, sock: _socket.socket, handler: Handler, pool: GreenletPool, batch: int = BATCH) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._handler = handler
        self._pool = pool
        self._batch = batch
        self.family = sock.family
        self._watcher = get_hub().loop.io(sock.fileno(), 1)
        self._resume: Any = None

    def start(self) -> None:
        self._watcher.start(self._ready)

    def stop(self) -> None:
        """Accept no more; the socket stays open for whoever else holds it."""
        self._watcher.stop()
        if self._resume is not None:
            self._resume.stop()

    def close(self) -> None:
        """Accept no more, for good; may be called twice."""
        if self._socket.fileno() >= 0:
            self.stop()
            self._watcher.close()
            self._socket.close()

    def _ready(self) -> None:
        for _ in range(self._batch):
            try:
                descriptor, address = self._socket._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError:
                self._pause()
                return
            # family, type and protocol are given: otherwise the constructor asks the kernel for each
            sock = _socket.socket(self.family, _socket.SOCK_STREAM, 0, descriptor)
            sock.setblocking(False)
            if self.family != _socket.AF_UNIX:
                sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            self._pool.spawn(self._handler, sock, address)

    def _pause(self) -> None:
        """No file descriptors left: look again in a moment instead of spinning on a ready listener."""
        self._watcher.stop()
        self._resume = get_hub().loop.timer(_EMFILE_PAUSE)
        self._resume.start(self.start)
