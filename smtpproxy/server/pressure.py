"""What this process is short of: time, disk, memory. Looked at several times a second; sessions see the outcome.

A process that is late with everything it has to do takes no more on: new clients are told 421 and come back. It is late
when two looks in a row were, and on time again when none was by more than a quarter of that for a while: one long turn
of the hub is no reason, and it does not change its mind with each look.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import gevent

from smtpproxy.config.limits import Limits
from smtpproxy.server.episode import Episode
from smtpproxy.server.listeners import Admission
from smtpproxy.session.room import Room
from smtpproxy.session.services import LogLine

LOOK = 0.1
CALM = 2.0
"""Seconds without lateness after which it is over."""
QUARTER = 0.25


class Lateness:
    """Whether a process is late, by how late each look came."""

    __slots__ = ("_before", "_calm", "_limit", "late")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._before = 0.0
        self._calm = 0.0
        self.late = False

    def look(self, by: float, seconds: float) -> bool:
        """A look came so many seconds late, and so many behind the one before."""
        limit, before, self._before = self._limit, self._before, by
        if not limit:
            return False
        self._calm = self._calm + seconds if by < limit * QUARTER else 0.0
        if min(by, before) >= limit:
            self.late = True
        elif self._calm >= CALM:
            self.late = False
        return self.late


class Pressure:
    """The looks of one worker. ``heaps`` tells what memory rules in Lua hold."""

    def __init__(
        self, limits: Limits, data: Path, admission: Admission, room: Room, heaps: Callable[[], int], log: LogLine
    ) -> None:
        self._data = data
        self._admission = admission
        self._room = room
        self._heaps = heaps
        self._lateness = Lateness(limits.lag)
        self._disk = bool(limits.free_disk)
        self._overload = Episode(log, "overloaded")

    def run(self) -> None:
        """Look again and again."""
        now = gevent.get_hub().loop.now
        before = now()
        while True:
            gevent.sleep(LOOK)
            moment = now()
            self._tell(moment - before - LOOK, moment - before)
            before = moment
            self.look()

    def look(self) -> None:
        """At the disk and at Lua's heaps."""
        room = self._room
        room.budget.beside = self._heaps() if room.budget.limit else 0
        if self._disk:
            room.free = free(self._data)

    def _tell(self, by: float, seconds: float) -> None:
        if self._lateness.look(by, seconds):
            self._overload.begin(ms=round(by * 1000))
            self._admission.overload = self._overload
        elif self._overload.on:
            self._admission.overload = None
            self._overload.end()


def free(folder: Path) -> float:
    """Octets that we may still write there; infinite where that cannot be told."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return float("inf")
    return found.f_bavail * found.f_frsize
