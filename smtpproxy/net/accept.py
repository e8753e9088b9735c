"""The accept loop of the house: plain sockets, reused greenlets, its own count of slots.

gevent's StreamServer costs a gevent socket and a fresh greenlet per connection (12 to 15 us for the mmap of its frame
stack alone on CPython 3.11); here a greenlet that has ended its session waits for the next one.
"""

from __future__ import annotations

import _socket
import contextvars
import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gevent
from gevent import get_hub
from gevent.monkey import get_original
from greenlet import getcurrent

from smtpproxy.wire.reply import Reply

BATCH = 64
_EMFILE_PAUSE = 0.1
_IDLE_GREENLETS = 512

BUSY = Reply(421, "4.3.2", "Too busy now, try again later")
_close = get_original("os", "close")  # gevent's waits for a turn of the hub, and the descriptor is wanted now
Short = Callable[[int | None], None]
Handler = Callable[[_socket.socket, Any], None]
"""Told the address of the peer as accept(2) gives it."""


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

    __slots__ = ("_batch", "_handler", "_pool", "_resume", "_short", "_socket", "_spare", "_watcher", "family")

    def __init__(
        self, sock: _socket.socket, handler: Handler, pool: GreenletPool, batch: int = BATCH, short: Short | None = None
    ) -> None:
        """``short`` is told how many were turned away because no descriptors were left, and None when there are some again."""
        self._short = short
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
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
            if self._spare >= 0:
                _close(self._spare)

    def _ready(self) -> None:
        for _ in range(self._batch):
            try:
                descriptor, address = self._socket._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._turn_away()
                self._pause()
                return
            if self._resume is not None:
                self._recovered()
            # family, type and protocol are given: otherwise the constructor asks the kernel for each
            sock = _socket.socket(self.family, _socket.SOCK_STREAM, 0, descriptor)
            sock.setblocking(False)
            if self.family != _socket.AF_UNIX:
                sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            self._pool.spawn(self._handler, sock, address)

    def _turn_away(self) -> None:
        """No file descriptors left: one was kept, so that who waits is told to come back and need not find out."""
        refused = 0
        while refused < BATCH and self._spare >= 0:
            _close(self._spare)
            self._spare = -1
            try:
                descriptor, _ = self._socket._accept()  # type: ignore[attr-defined]
                sock = _socket.socket(self.family, _socket.SOCK_STREAM, 0, descriptor)
                with suppress(OSError):
                    sock.send(bytes(BUSY), _socket.MSG_DONTWAIT)
                sock.close()
            except OSError:
                break
            finally:
                self._keep_spare()
            refused += 1
        if self._short is not None:
            self._short(refused)

    def _keep_spare(self) -> None:
        with suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _recovered(self) -> None:
        self._resume = None
        if self._spare < 0:
            self._keep_spare()
        if self._short is not None:
            self._short(None)

    def _pause(self) -> None:
        """Look again in a moment instead of spinning on a ready listener."""
        self._watcher.stop()
        self._resume = get_hub().loop.timer(_EMFILE_PAUSE)
        self._resume.start(self.start)
