"""Where the log goes: a file, a pipe, a socket, syslog. None of them is ever waited for.

``write`` takes lines and says how many it took: those of the rest are for later. What it could not keep (the disk is full,
nobody listens) counts as taken, and is added to ``lost``.
"""

from __future__ import annotations

import _socket
import os
import select
import stat
import sys
import time
from collections.abc import Iterator
from typing import Protocol

REOPEN = 1.0
"""Seconds between two looks whether somebody has moved the file away."""
SYSLOG = "/dev/log"
MAIL = 2 << 3
SEVERITY = {"debug": 7, "info": 6, "warning": 4, "error": 3}


class Target(Protocol):
    """Where lines go."""

    lost: int

    def write(self, lines: list[str]) -> int:
        """How many were taken; see above."""

    def frame(self, level: str) -> str:
        """What stands before a line."""

    def close(self) -> None:
        """No more is written."""


def target(to: str) -> Target:
    """For a [log] to; raises OSError."""
    if to.startswith("syslog"):
        return Syslog(to.partition(":")[2] or SYSLOG)
    if to == "stdout":
        return Stream(own(sys.stdout.fileno()))
    os.makedirs(os.path.dirname(os.path.abspath(to)), exist_ok=True)
    return File(to)


def own(descriptor: int) -> int:
    """A descriptor for the same thing whose waiting is ours alone to forbid; one that waits where that is not allowed."""
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        try:
            return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            pass
    return os.dup(descriptor)


class Stream:
    """A pipe, a terminal or a socket that was opened by others."""

    __slots__ = ("_at_once", "_count", "_descriptor", "_rest", "_socket", "lost")

    def __init__(self, descriptor: int) -> None:
        mode = os.fstat(descriptor).st_mode
        self._descriptor = descriptor
        self._socket = _socket.socket(fileno=os.dup(descriptor)) if stat.S_ISSOCK(mode) else None
        self._at_once = select.PIPE_BUF if stat.S_ISFIFO(mode) else 1 << 20
        self._rest = b""
        """Of a piece that was written in part."""
        self.lost = 0

    def frame(self, level: str) -> str:
        return ""

    def write(self, lines: list[str]) -> int:
        """In whole lines: several processes may write to one pipe, which takes no more than PIPE_BUF at once."""
        if self._rest and not self._push(self._rest, 0):
            return 0
        taken = 0
        for count, data in pieces(lines, self._at_once):
            if self._rest or not self._push(data, count):
                break
            taken += count
        return taken

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        os.close(self._descriptor)

    def _push(self, data: bytes, count: int) -> bool:
        """False: there is no room for any of it now."""
        try:
            sent = self._put(data)
        except BlockingIOError:
            return False
        except OSError:
            self.lost += count
            sent = len(data)
        self._rest = data[sent:]
        return True

    def _put(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, _socket.MSG_DONTWAIT)
        return os.write(self._descriptor, data)


class File(Stream):
    """A file, opened anew when it was moved away."""

    __slots__ = ("_looked", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._looked = time.monotonic()
        super().__init__(self._open())

    def write(self, lines: list[str]) -> int:
        now = time.monotonic()
        if now - self._looked >= REOPEN:
            self._looked = now
            if self._moved():
                self._reopen()
        return super().write(lines)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)

    def _moved(self) -> bool:
        ours = os.fstat(self._descriptor)
        try:
            there = os.stat(self._path)
        except OSError:
            return True
        return (there.st_ino, there.st_dev) != (ours.st_ino, ours.st_dev)

    def _reopen(self) -> None:
        try:
            new = self._open()
        except OSError:  # the user whom we have become may not: the old file has it until the next reload
            return
        os.close(self._descriptor)
        self._descriptor = new


class Syslog:
    """The system's log, facility mail, over its own socket: syslog(3) waits when nobody reads there."""

    __slots__ = ("_path", "_socket", "lost")

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: _socket.socket | None = None
        self.lost = 0

    def frame(self, level: str) -> str:
        """As syslog(3) writes it."""
        now = time.strftime("%b %e %H:%M:%S")
        return f"<{MAIL | SEVERITY.get(level, 6)}>{now} smtpproxy[{os.getpid()}]: "

    def write(self, lines: list[str]) -> int:
        for taken, line in enumerate(lines):
            data = line.encode("utf-8", "backslashreplace")
            try:
                if not (self._send(data) or self._send(data)):  # whoever listens may have been started anew
                    self.lost += 1
            except BlockingIOError:
                return taken
        return len(lines)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _send(self, data: bytes) -> bool:
        try:
            if self._socket is None:
                self._socket = self._connect()
            self._socket.send(data)
        except BlockingIOError:
            raise
        except OSError:
            self.close()
            self._socket = None
            return False
        return True

    def _connect(self) -> _socket.socket:
        made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        made.setblocking(False)
        try:
            made.connect(self._path)
        except OSError:
            made.close()
            raise
        return made


def pieces(lines: list[str], at_once: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines, as many as go into so many octets at a time (one at least), and how many they are."""
    gathered: list[bytes] = []
    size = 0
    for line in lines:
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        if gathered and size + len(data) > at_once:
            yield len(gathered), b"".join(gathered)
            gathered, size = [], 0
        gathered.append(data)
        size += len(data)
    if gathered:
        yield len(gathered), b"".join(gathered)
