"""The ledger in one SQLite file with a folder of bodies beside it: a *slot*, which one process holds at a time.

    SLOT/lock            locked by the process that holds the slot; with that process the lock goes
    SLOT/ledger.sqlite   WAL, synchronous = FULL
    SLOT/bodies/         see spool.py

One thread does all of it, and takes what waits as one batch: the bodies are synced and get their names, the folder is synced
once, then the rows are written in one transaction, synced once. Whoever waits meanwhile is the next batch.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

from smtpproxy.queue import ledger, rows, salvage
from smtpproxy.queue.envelope import Envelope
from smtpproxy.queue.files import sync_folder
from smtpproxy.queue.ledger import Entry, Gone, LedgerError, Result, Then
from smtpproxy.queue.spool import Draft, Spool, SpooledBody
from smtpproxy.stores.owner import Owner, Question

BATCH: Final = 256
WAITING: Final = 50_000
BUSY: Final = 10.0
"""Seconds that a transaction waits for `smtpproxy queue`, the only other one that writes here."""


class Taken(Exception):
    """Another process holds this slot."""


class Job:
    """A question to the thread: ``first`` works on files, ``rows`` within the transaction, ``last`` behind its end."""

    __slots__ = ("first", "last", "publishes", "rows")

    def __init__(
        self,
        first: Callable[[], Any] | None = None,
        rows: Callable[[sqlite3.Connection], Any] | None = None,
        last: Callable[[], Any] | None = None,
        publishes: bool = False,
    ) -> None:
        self.first = first
        self.rows = rows
        self.last = last
        self.publishes = publishes


class SqliteLedger:
    """A slot. `log` hears of what was dropped, set aside and damaged; `horizon`: no mail waits longer than so many seconds at
    a time.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float],
        log: Callable[..., None] = lambda event, **facts: None,
        horizon: float = 86400.0,
    ) -> None:
        """Raises Taken, rows.UnknownSchema, LedgerError."""
        self.folder = folder
        self._clock = clock
        self._log = log
        self._horizon = horizon
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _locked(folder / "lock")
            try:
                self._thread = self._opened()
            except BaseException:
                os.close(self._lock)
                raise
        except (OSError, sqlite3.Error) as error:
            raise failure(folder, error) from None
        self._owner = Owner(self._thread, batch=BATCH, waiting=WAITING, refusal=self._refusal)
        self._tell()

    def draft(self, name: str) -> Draft:
        return Draft(self._spool, name)

    def write(self, draft: ledger.Draft, chunks: list[bytes]) -> None:
        body = cast(Draft, draft)
        self._owner.ask(Job(lambda: body.write(chunks)))

    def hold(self, draft: ledger.Draft, chunks: list[bytes]) -> None:
        body = cast(Draft, draft)
        self._owner.ask(Job(lambda: body.sync(chunks)))

    def add(self, draft: ledger.Draft, envelope: Envelope) -> None:
        body, row = _complete(draft, envelope)
        self._owner.ask(Job(body.publish, lambda connection: rows.insert(connection, row), publishes=True))

    def drop(self, draft: ledger.Draft) -> None:
        body = cast(Draft, draft)
        self._owner.ask(Job(body.drop))

    def lease(self, limit: int, busy: Collection[str] = ()) -> list[Entry]:
        def take(connection: sqlite3.Connection) -> tuple[list[Entry], list[tuple[int, str]]]:
            now = self._clock()
            found = rows.lease(connection, now, limit, busy)
            if not found[0]:
                rows.mend(connection, now, self._horizon)
            return found

        entries, damaged = self._owner.ask(Job(None, take))
        for key, why in damaged:
            self._log("queue_aside", level="error", slot=self.folder.name, key=key, reason=why)
        self._tell()
        return list(entries)

    def record(
        self,
        entry: Entry,
        results: Sequence[Result],
        then: Then | None = None,
        notice: tuple[ledger.Draft, Envelope] | None = None,
    ) -> None:
        forget = (lambda: self._spool.remove(entry.envelope.name)) if isinstance(then, Gone) else None
        if notice is None:
            self._owner.ask(Job(None, lambda connection: rows.record(connection, entry, results, then), forget))
            return
        body, row = _complete(*notice)

        def write(connection: sqlite3.Connection) -> None:
            rows.insert(connection, row)
            rows.record(connection, entry, results, then)

        self._owner.ask(Job(body.publish, write, forget, publishes=True))

    def body(self, entry: Entry) -> SpooledBody:
        return SpooledBody(self._spool.folder, entry.envelope)

    def empty(self) -> bool:
        return bool(self._owner.ask(Job(None, lambda it: it.execute("SELECT NOT EXISTS (SELECT 1 FROM mails)").fetchone()[0])))

    def close(self) -> None:
        self._owner.close()
        os.close(self._lock)

    def remove(self) -> None:
        """Instead of ``close``, when it is empty. The lock goes last: who waits for it finds another file, or none."""
        self._owner.close()
        shutil.rmtree(self.folder / "bodies", ignore_errors=True)
        for path in (*self.folder.glob("ledger.sqlite*"), self.folder / "lock"):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()
        os.close(self._lock)

    def _opened(self) -> _Thread:
        self._spool = Spool(self.folder / "bodies")
        thread = _Thread(self.folder, self._spool)
        for made in (self.folder, self.folder.parent, self.folder.parent.parent):
            sync_folder(made)
        return thread

    def _tell(self) -> None:
        """What the thread has found."""
        while self._thread.found:
            event, facts = self._thread.found.popleft()
            self._log(event, **facts)

    def _refusal(self, why: str) -> LedgerError:
        return LedgerError(f"{self.folder}: {why}")


class _Thread:
    """What the thread does with a batch."""

    def __init__(self, folder: Path, spool: Spool) -> None:
        """Raises OSError, sqlite3.Error, rows.UnknownSchema."""
        self.found: deque[tuple[str, dict[str, Any]]] = deque()
        """Events for the log."""
        self._folder = folder
        self._spool = spool
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
        for question in batch:
            if question.task.first is not None:
                _try(question, question.task.first)
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


def _complete(draft: ledger.Draft, envelope: Envelope) -> tuple[Draft, tuple[str, str, float, bytes]]:
    """The draft, and the row of the mail whose body it is."""
    envelope.name, envelope.size, envelope.crc, envelope.dotted = draft.name, draft.size, draft.crc, draft.dotted
    return cast(Draft, draft), rows.row(envelope)


def _try(question: Question[Job], work: Callable[[], Any]) -> None:
    try:
        question.result = work()
    except OSError as error:
        question.error = error


def _locked(path: Path) -> int:
    """Raises Taken, OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Taken(str(path)) from None
    if not path.exists() or path.stat().st_ino != os.fstat(descriptor).st_ino:
        os.close(descriptor)  # whoever held it has removed the slot meanwhile
        raise Taken(str(path))
    return descriptor


def failure(folder: Path, error: Exception) -> LedgerError:
    """A full disk has its number, whoever it was that found it full."""
    full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    number = errno.ENOSPC if full else getattr(error, "errno", None) or errno.EIO
    return LedgerError(number, f"{folder}: {error}")
