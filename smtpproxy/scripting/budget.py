"""Wall-clock budgets: a sweep every 50 ms throws RuleTimeout into the greenlet whose hook call is over its time.

Metering costs a hook nothing but the clock reads it needs anyway: a call carries its deadline, the sweep compares. A
rule that holds the hub cannot be swept: `preemption.py` takes the hub from it, and ends it by its CPU budget.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import gevent

from smtpproxy.scripting.errors import RuleTimeout
from smtpproxy.scripting.watchdog import Watchdog

if TYPE_CHECKING:
    from smtpproxy.scripting.runner import Call

INTERVAL = 0.05


class Preemption(Protocol):
    """What meters CPU time beside the sweep (`preemption.py`)."""

    parked: list[Any]

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Budget:
    """The calls that run now, and the sweep over them; it also sees when the hub was held from everybody."""

    __slots__ = ("_timer", "clock", "preemption", "running", "watchdog")

    def __init__(self, clock: Callable[[], float] = time.monotonic, log: Callable[..., None] | None = None) -> None:
        self.running: set[Call] = set()
        self.clock = clock
        self.preemption: Preemption | None = None
        self.watchdog = Watchdog(log, INTERVAL) if log is not None else None
        self._timer: Any = None

    def start(self) -> None:
        """Sweep from now on, in this thread's hub."""
        if self._timer is None:
            self._timer = gevent.get_hub().loop.timer(INTERVAL, INTERVAL)
            self._timer.start(self._turn)
            for part in (self.preemption, self.watchdog):
                if part is not None:
                    part.start()

    def stop(self) -> None:
        if self._timer is not None:
            for part in (self.preemption, self.watchdog):
                if part is not None:
                    part.stop()
            self._timer.stop()
            self._timer.close()
            self._timer = None

    @contextmanager
    def started(self) -> Iterator[None]:
        """Sweep meanwhile, whether or not start() was called."""
        at_work = self._timer is not None
        self.start()
        try:
            yield
        finally:
            if not at_work:
                self.stop()

    def _turn(self) -> None:
        if self.watchdog is not None:
            self.watchdog.beat()
        self.sweep()

    def sweep(self) -> None:
        """Throw into every overdue call, again at each sweep until the call is over: what is swallowed comes back.

        Runs as a hub callback: nobody else moves between the comparison and the throw, so a call that is just over is
        never hit.
        """
        now = self.clock()
        for call in [call for call in self.running if call.deadline < now]:
            # one of them may have ended while another was thrown into
            if call in self.running and call.deadline < now and not call.greenlet.dead:
                call.greenlet.throw(RuleTimeout)
