"""The queue of one process: its slot, the slots that it has adopted, and the sender at work on them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import gevent
from gevent.event import Event

from smtpproxy.queue.envelope import Envelope
from smtpproxy.queue.ledger import Draft, Ledger, LedgerError
from smtpproxy.queue.room import FreeSpace
from smtpproxy.queue.rows import UnknownSchema
from smtpproxy.queue.sender import Log, Sender
from smtpproxy.queue.slots import Slots
from smtpproxy.queue.sqlite import SqliteLedger

ADOPT: Final = 2.0
"""Seconds between two looks for slots that nobody holds."""
SWEEP: Final = 5.0


class QueueRefused(Exception):
    """The queue cannot be used; str() says why, and what to do."""


class Queue:
    """Opened by ``start``, in the process that serves. `clock` tells seconds since the epoch; `min_free` octets of the disk
    stay free, 0 for none."""

    def __init__(
        self, folder: Path, sender: Sender, clock: Callable[[], float], log: Log, horizon: float, min_free: int = 0
    ) -> None:
        self._clock = clock
        self._sender = sender
        self.log = log
        self._horizon = horizon
        self._slots = Slots(folder, self._open, self._failed)
        self.room = FreeSpace(folder, min_free)
        self._home: SqliteLedger | None = None
        self._wake = Event()
        self._helpers: list[Any] = []

    @property
    def ledger(self) -> Ledger:
        """Where mail that we are given is kept. Raises LedgerError while there is no room for one."""
        if self._home is None:
            raise LedgerError(errno.ENOSPC, "there was no room for a ledger")
        return self._home

    def start(self) -> None:
        """A full disk is waited out. Raises QueueRefused."""
        try:
            self._settle()
        except LedgerError as error:
            if error.errno != errno.ENOSPC:
                raise QueueRefused(f"the queue cannot be used: {error}") from None
            self._failed(str(error))
        except UnknownSchema as error:
            raise QueueRefused(f"the queue cannot be used: {error}") from None
        self._helpers += [gevent.spawn(self._adopt), gevent.spawn(self._sweep)]

    def lacking(self, size: int) -> str | None:
        """Why there is no room for so many octets now; None where there is."""
        return self.room.lacking(size)

    def add(self, draft: Draft, envelope: Envelope) -> None:
        """See ``Ledger.add``; the sender is told. Raises OSError."""
        self.ledger.add(draft, envelope)
        self._wake.set()

    def stop(self, within: float) -> None:
        """Deliveries under way have so many seconds; what is not done then is done by the next process."""
        self._sender.stop()
        deadline = gevent.get_hub().loop.now() + within
        while self._sender.busy and gevent.get_hub().loop.now() < deadline:
            gevent.sleep(0.02)
        gevent.killall(self._helpers)
        self._sender.close()
        self._slots.close()

    def _open(self, path: Path) -> SqliteLedger:
        return SqliteLedger(path, self._clock, self.log, self._horizon)

    def _failed(self, why: str) -> None:
        self.log("queue_failed", level="error", error=why)

    def _settle(self) -> None:
        """Raises LedgerError, UnknownSchema."""
        self._home = self._slots.home()
        self._helpers.append(gevent.spawn(self._sender.serve, self._home, self._wake))

    def _adopt(self) -> None:
        """What others have left behind is sent from here."""
        while True:
            gevent.sleep(ADOPT)
            with suppress(LedgerError):  # still no room
                if self._home is None:
                    self._settle()
            try:
                ledger = self._slots.adopt()
            except UnknownSchema as error:
                self._failed(str(error))
                continue
            if ledger is not None:
                self._helpers.append(gevent.spawn(self._finish, ledger))

    def _finish(self, ledger: SqliteLedger) -> None:
        """Nobody adds to a slot that was left behind: it is sent, and gone."""
        if self._sender.serve(ledger, Event(), last=True):
            self._slots.remove(ledger)

    def _sweep(self) -> None:
        while True:
            gevent.sleep(SWEEP)
            self._sender.sweep()
