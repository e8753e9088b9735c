"""The ledger in one SQLite file with a folder of bodies beside it: a *slot*, which one process holds at a time.

    SLOT/lock            locked by the process that holds the slot; with that process the lock goes
    SLOT/ledger.sqlite   WAL, synchronous = FULL
    SLOT/bodies/         see spool.py

One thread does all of it (disk.py), and takes what waits as one batch: the bodies are synced side by side and get their names,
the folder is synced once, then the rows are written in one transaction, synced once. Whoever waits meanwhile is the next batch.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, cast

from smtpproxy.queue import ledger, rows
from smtpproxy.queue.disk import Disk, Job, failure
from smtpproxy.queue.envelope import Envelope
from smtpproxy.queue.files import sync_folder
from smtpproxy.queue.ledger import Entry, Gone, LedgerError, Result, Then
from smtpproxy.queue.spool import Draft, Spool, SpooledBody
from smtpproxy.stores.owner import Owner

BATCH: Final = 256
WAITING: Final = 50_000


class Taken(Exception):
    """Another process holds this slot."""


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
        self._owner.ask(Job(lambda: body.sync(chunks), syncs=True))

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

    def _opened(self) -> Disk:
        self._spool = Spool(self.folder / "bodies")
        thread = Disk(self.folder, self._spool)
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


def _complete(draft: ledger.Draft, envelope: Envelope) -> tuple[Draft, tuple[str, str, float, bytes]]:
    """The draft, and the row of the mail whose body it is."""
    envelope.name, envelope.size, envelope.crc, envelope.dotted = draft.name, draft.size, draft.crc, draft.dotted
    return cast(Draft, draft), rows.row(envelope)


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
