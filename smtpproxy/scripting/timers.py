"""@every: the timers of the newest table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from smtpproxy.scripting.facade import Timer
from smtpproxy.scripting.instance import Instance
from smtpproxy.scripting.table import Table

Tick = Callable[[Instance, Callable[[], Any]], None]


class Timers:
    """A greenlet a timer. A version that stays keeps its rhythm; one that goes ends after the run it may be in."""

    def __init__(self, tick: Tick) -> None:
        self._tick = tick
        self._ends: dict[Timer, Event] = {}
        self._started = False

    def start(self, table: Table) -> None:
        self._started = True
        self.follow(table)

    def stop(self) -> None:
        self._started = False
        self._end(set(self._ends))

    def follow(self, table: Table) -> None:
        """Run exactly the timers of this table."""
        if not self._started:
            return
        wanted = {timer: instance for instance in table.instances.values() for timer in instance.timers}
        self._end(self._ends.keys() - wanted.keys())
        for timer in wanted.keys() - self._ends.keys():
            end = self._ends[timer] = Event()
            gevent.spawn(self._run, wanted[timer], timer, end)

    def _end(self, timers: set[Timer]) -> None:
        for timer in timers:
            self._ends.pop(timer).set()

    def _run(self, instance: Instance, timer: Timer, end: Event) -> None:
        while not end.wait(timer.seconds):
            self._tick(instance, timer.function)
