"""The dialogue with the upstream, for the trace of the session that it serves."""

from __future__ import annotations

from collections import deque
from time import monotonic

from smtpproxy.scripting.trace import UPSTREAM, Trace
from smtpproxy.wire.reply import Reply


class Tap:
    """Pairs each reply with the command that it answers; commands may be pipelined."""

    __slots__ = ("_trace", "_waiting")

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._waiting: deque[tuple[bytes, float]] = deque()

    def __call__(self, said: bytes | Reply) -> None:
        now = monotonic()
        if isinstance(said, bytes):
            self._waiting.append((said, now))
            return
        command, began = self._waiting.popleft() if self._waiting else (b".", now)
        self._trace.append((UPSTREAM, began, now, command, said))
