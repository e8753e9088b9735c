"""The disk of a slot, as its one thread works on it: the files of the bodies, and the ledger's connection."""

from __future__ import annotations

import errno
import sqlite3
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from smtpproxy.queue import rows, salvage
from smtpproxy.queue.crew import Crew
from smtpproxy.queue.ledger import LedgerError
from smtpproxy.queue.spool import Spool
from smtpproxy.stores.owner import Question

BUSY: Final = 10.0
"""Seconds that a transaction waits for `smtpproxy queue`, the only other one that writes here."""
SYNCS: Final = 16
"""Bodies that are synced side by side: a disk takes many syncs as one."""


class Job:
    """A question to the thread: ``first`` works on files, ``rows`` within the transaction, ``last`` behind its end.

    ``syncs``: what ``first`` does waits for the disk. ``publishes``: it gives a body its name.
    """

    __slots__ = ("first", "last", "publishes", "rows", "syncs")

    def __init__(
        self,
        first: Callable[[], Any] | None = None,
        rows: Callable[[sqlite3.Connection], Any] | None = None,
        last: Callable[[], Any] | None = None,
        publishes: bool = False,
        syncs: bool = False,
    ) -> None:
        self.first = first
        self.rows = rows
        self.last = last
        self.publishes = publishes
        self.syncs = syncs


class Disk:
    """What the thread does with a batch."""

    def __init__(self, folder: Path, spool: Spool) -> None:
        """Raises OSError, sqlite3.Error, rows.UnknownSchema."""
        self.found: deque[tuple[str, dict[str, Any]]] = deque()
        """Events for the log."""
        self._folder = folder
        self._spool = spool
        self._crew = Crew(SYNCS)
        salvage.finish(folder)
        if salvage.bereft(folder):
            salvage.finish(folder, self._salvage("it is gone"))
        try:
            self._connection = self._begin()
        except sqlite3.DatabaseError as error:
            if not salvage.damaged(error):
                raise
            salvage.finish(folder, self._salvage(str(error)))
            self._connection = self._begin()

    def log(self, event: str, **facts: Any) -> None:
        """Told when somebody asks the next time: a thread writes no log."""
        self.found.append((event, facts))

    def answer(self, batch: list[Question[Job]]) -> None:
        syncing: list[Callable[[], None]] = []
        for question in batch:
            if question.task.syncs:
                syncing.append(partial(_first, question))
            elif question.task.first is not None:
                _first(question)
        self._crew.run(syncing)
        self._sync_names(batch)
        writing = [question for question in batch if question.task.rows is not None and question.error is None]
        if writing:
            self._transact(writing)
        for question in writing:
            if question.task.last is not None and question.error is None:
                question.task.last()

    def close(self) -> None:
        self._connection.close()
        self._spool.close()
        self._crew.close()

    def _begin(self) -> sqlite3.Connection:
        """What another process has left is put in order: bodies that no row names were promised to nobody, or are delivered."""
        connection = connect(self._folder)
        try:
            rows.own(connection)
            rows.recover(connection)
            dropped, bodies = self._spool.leftovers()
            for name in rows.unnamed(connection, bodies) if bodies else ():
                self._spool.remove(name)
        except BaseException:
            connection.close()
            raise
        if dropped:
            self.log("held_dropped", handoff="queue", messages=dropped)
        return connection

    def _salvage(self, why: str) -> Path:
        folder, mails, bodies = salvage.salvage(self._folder)
        slot = self._folder.name
        self.log("queue_damaged", level="error", slot=slot, error=why, saved=mails, lost=bodies, folder=str(folder))
        return folder

    def _mend(self, error: sqlite3.Error) -> None:
        """The ledger has turned out to be damaged while it is used: what can be read of it goes on."""
        try:
            place = self._salvage(str(error))
            leased = rows.leased(self._connection)
            self._connection.close()
            salvage.finish(self._folder, place)
            self._connection = connect(self._folder)
            rows.own(self._connection)
            rows.take(self._connection, leased)
        except (OSError, sqlite3.Error) as problem:
            self.log("queue_failed", level="error", error=f"{self._folder} is damaged, and cannot be mended: {problem}")

    def _sync_names(self, batch: list[Question[Job]]) -> None:
        try:
            self._spool.sync()
        except OSError as error:
            for question in batch:
                if question.task.publishes:
                    question.error = question.error or failure(self._folder, error)

    def _transact(self, batch: list[Question[Job]]) -> None:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for question in batch:
                assert question.task.rows is not None
                question.result = question.task.rows(connection)
            connection.execute("COMMIT")
        except (sqlite3.Error, ValueError) as error:
            for question in batch:
                question.error = failure(self._folder, error)
            if connection.in_transaction:
                connection.rollback()
            if isinstance(error, sqlite3.Error) and salvage.damaged(error):
                self._mend(error)


def connect(folder: Path) -> sqlite3.Connection:
    """To a slot's ledger; used by one thread at a time. Raises sqlite3.Error, rows.UnknownSchema."""
    path = folder / "ledger.sqlite"
    connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
    try:
        rows.prepare(connection)
    except rows.UnknownSchema as unknown:
        connection.close()
        raise rows.UnknownSchema(f"{path}: {unknown}") from None
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _first(question: Question[Job]) -> None:
    assert question.task.first is not None
    try:
        question.result = question.task.first()
    except OSError as error:
        question.error = error


def failure(folder: Path, error: Exception) -> LedgerError:
    """A full disk has its number, whoever it was that found it full."""
    full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    number = errno.ENOSPC if full else getattr(error, "errno", None) or errno.EIO
    return LedgerError(number, f"{folder}: {error}")
