"""Code of a rule that runs outside of any session, in a greenlet of its own: files that are loaded, on_load, timers.

Whoever waits for it goes on when it is over, also when its greenlet was parked (`preemption.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from greenlet import getcurrent

from smtpproxy.scripting.errors import CpuTimeout
from smtpproxy.scripting.runner import CALL, Call


class Errand:
    """One run of `function` as `call`; a greenlet that waits for it may be killed, and takes it along."""

    __slots__ = ("call", "error", "function", "over", "running")

    def __init__(self, call: Call, function: Callable[[], Any], running: set[Call]) -> None:
        self.call = call
        self.function = function
        self.running = running
        self.over = Event()
        self.error: BaseException | None = None

    def wait(self) -> BaseException | None:
        """Run it, and wait until it is over; what it raised, CpuTimeout when it had to be given up."""
        self.call.abandoned = self._abandoned
        greenlet = gevent.spawn(self.run)
        try:
            self.over.wait()
        finally:
            if not self.over.is_set():
                greenlet.kill(block=False)
        return self.error

    def run(self) -> None:
        call = self.call
        call.greenlet = getcurrent()
        CALL.set(call)
        self.running.add(call)
        try:
            self.function()
        except BaseException as error:
            self.error = error
        finally:
            call.entry = None
            self.running.discard(call)
            self.over.set()

    def _abandoned(self) -> None:
        self.error = CpuTimeout()
        self.over.set()
