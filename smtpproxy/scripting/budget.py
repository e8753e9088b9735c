"""Wall-clock budgets: a sweep every 50 ms throws RuleTimeout into the greenlet whose hook call is over its time.

Metering costs a hook nothing but the clock reads it needs anyway: a call carries its deadline, the sweep compares. A
rule that holds the hub cannot be swept; what it overran is seen when it returns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent

if TYPE_CHECKING:
    from smtpproxy.scripting.runner import Call

INTERVAL = 0.05


class RuleTimeout(BaseException):
    """Thrown into a rule that is over its wall budget.

    Not an Exception, so that `except Exception` does not swallow it.
    """


class Budget:
    """The calls that run now, and the sweep over them."""

    __slots__ = ("_timer", "clock", "running")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.running: set[Call] = set()
        self.clock = clock
        self._timer: Any = None

    def start(self) -> None:
        """Sweep from now on, in this thread's hub."""
        if self._timer is None:
            self._timer = gevent.get_hub().loop.timer(INTERVAL, INTERVAL)
            self._timer.start(self.sweep)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

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
