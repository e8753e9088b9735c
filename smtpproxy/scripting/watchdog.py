"""Who held the hub: nobody else is served while one greenlet neither waits nor ends.

The sweep beats twenty times a second. A thread that gevent knows nothing of looks whether the beats come; when they do
not, it writes down what the hub's thread is at, and the beat that comes at last logs it. Code that waits in the kernel
uses no CPU time, no signal of `preemption.py` would find it: hence a thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import gevent
from gevent.monkey import get_original

from smtpproxy.scripting.failure import MODULE_PREFIX
from smtpproxy.scripting.stacks import place, rule_of

STALL = 0.1
"""Seconds without a turn of the hub that are worth a line in the log."""
QUIET = 1.0
"""Seconds between two such lines; stalls between them are counted."""
_DEPTH = 200


class Watchdog:
    """`beat()` is called by the hub every `interval` seconds. Logs hub_stalled: for how many ms, by which rule, where."""

    __slots__ = ("_beaten", "_held", "_interval", "_log", "_round", "_silent", "_since", "_thread")

    def __init__(self, log: Callable[..., None], interval: float) -> None:
        self._log = log
        self._interval = interval
        self._beaten = 0.0
        self._round = 0
        self._held: dict[str, str] = {}
        self._thread = 0
        self._silent = 0
        self._since = 0.0

    def start(self) -> None:
        self._beaten = time.monotonic()
        self._round += 1
        self._thread = get_original("_thread", "get_ident")()
        get_original("_thread", "start_new_thread")(self._watch, (self._round,))

    def stop(self) -> None:
        """The thread ends at its next look."""
        self._round += 1

    def beat(self) -> None:
        """A turn of the hub."""
        now = time.monotonic()
        stalled = now - self._beaten - self._interval
        self._beaten = now
        held, self._held = self._held, {}
        if stalled < STALL:
            return
        if now - self._since < QUIET:
            self._silent += 1
            return
        fields: dict[str, Any] = {"ms": round(stalled * 1000), **held, "more": self._silent or None}
        self._since, self._silent = now, 0
        # not from the hub: a log may have to wait
        gevent.spawn_raw(self._log, "hub_stalled", level="warning", **fields)

    def _watch(self, round: int) -> None:
        sleep = get_original("time", "sleep")
        seen = 0.0
        while self._round == round:
            sleep(self._interval)
            beaten = self._beaten
            if beaten != seen and time.monotonic() - beaten > self._interval + STALL * 0.6:
                seen = beaten
                self._held = holder(sys._current_frames().get(self._thread))


def holder(frame: FrameType | None) -> dict[str, str]:
    """Where this stack is, and the rule that is on it: {"at": "20-users.py:7", "rule": "20-users"}."""
    innermost = place(frame) if frame is not None else ""
    for _ in range(_DEPTH):
        if frame is None:
            break
        name = frame.f_globals.get("__name__")
        if isinstance(name, str) and name.startswith(MODULE_PREFIX):
            return {"at": place(frame), "rule": rule_of(name)[0]}
        frame = frame.f_back
    return {"at": innermost}
