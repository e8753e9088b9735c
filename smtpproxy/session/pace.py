"""How fast a message comes: no block of it may be long in coming, and all of it keeps a least rate.

A message is looked at when its grace is over, and then whenever it must have come farther: as long as it keeps the rate
there are few such moments, and those who are quick never see one. What counts is the time that we have waited for the
client, not what a rule or an upstream took to have it.
"""

from __future__ import annotations

from smtpproxy.config.limits import Limits
from smtpproxy.net.connection import NEVER, Connection, Expired

LEAST = 0.05
"""Seconds between two looks at a message."""


class TooSlow(Expired):
    """The message comes, but below the rate that is asked for."""


class Pace:
    """Reads a message from the client. No wait goes on past ``end``, the session's."""

    __slots__ = ("_connection", "_end", "_limits", "_octets", "_patience", "_paused", "_waited")

    def __init__(self, connection: Connection, limits: Limits, end: float) -> None:
        self._connection = connection
        self._limits = limits
        self._end = end
        self._patience = connection.timeout
        self._octets = 0
        self._waited = 0.0
        self._paused = 0.0
        connection.timeout = limits.timeouts.data
        self._look_in(limits.timeouts.data_grace or NEVER if limits.data_rate else NEVER)

    def take(self) -> bytes:
        """What comes next. Raises ``TooSlow``, ``Expired``, ``ConnectionLost``."""
        connection = self._connection
        began = connection.now()
        while True:
            try:
                data = connection.take()
            except Expired as expired:
                if not connection.overdue or connection.now() >= self._end:
                    raise
                self._look(connection.now() - began, expired)
            else:
                self._waited += connection.now() - began
                self._octets += len(data)
                return data

    def pause(self) -> None:
        """Commands come next: they have the time that commands have."""
        self._connection.timeout = self._patience
        self._connection.end_at(self._end)
        self._paused = self._connection.now()

    def resume(self) -> None:
        """More of the message comes. Raises ``TooSlow``."""
        self._waited += self._connection.now() - self._paused
        self._connection.timeout = self._limits.timeouts.data
        if self._limits.data_rate and self._limits.timeouts.data_grace:
            self._look(0.0)

    def _look(self, waiting: float, cause: Expired | None = None) -> None:
        limits, waited = self._limits, self._waited + waiting
        due = max(limits.timeouts.data_grace, self._octets / limits.data_rate)
        if waited >= due:
            raise TooSlow(f"{self._octets} octets in {waited:.0f} seconds") from cause
        self._look_in(max(due - waited, LEAST))

    def _look_in(self, seconds: float) -> None:
        self._connection.end_at(min(self._connection.now() + seconds, self._end))
