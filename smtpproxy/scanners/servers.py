"""The servers of one scanner: the first that works is asked, the next one when it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from smtpproxy.config.values import ScannerTarget
from smtpproxy.facts.scan import ScanError
from smtpproxy.net.connection import Connection, Expired
from smtpproxy.net.dial import dial

T = TypeVar("T")

AWAY: Final = 10.0
"""Seconds for which a server that failed is asked after the others: it is never left out."""


class ServerFailed(Exception):
    """This server cannot answer now; str() says why. The next one may."""


class Servers:
    """`connect` is in seconds for one connection, `clock` tells seconds."""

    __slots__ = ("_away", "_clock", "_connect", "targets")

    def __init__(self, targets: Sequence[ScannerTarget], connect: float, clock: Callable[[], float]) -> None:
        self.targets = tuple(targets)
        self._connect = connect
        self._clock = clock
        self._away: dict[ScannerTarget, float] = {}

    def ask(self, question: Callable[[Connection, str], T]) -> T:
        """The answer of the first server that gives one; each gets a connection of its own. Raises ScanError."""
        failures = []
        for target in self._in_turn():
            try:
                return self._ask(target, question)
            except (OSError, ServerFailed) as error:
                self._away[target] = self._clock() + AWAY
                failures.append(f"{target}: {'too slow' if isinstance(error, Expired) else error}")
        raise ScanError("; ".join(failures) or "no server is configured")

    def _ask(self, target: ScannerTarget, question: Callable[[Connection, str], T]) -> T:
        connection = dial(target.host, target.port, target.path, self._connect)
        try:
            return question(connection, str(target))
        finally:
            connection.close()

    def _in_turn(self) -> Iterator[ScannerTarget]:
        now = self._clock()
        return iter(sorted(self.targets, key=lambda target: self._away.get(target, 0.0) > now))
