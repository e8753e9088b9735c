"""A store in one SQLite file: it survives a restart, and several processes may have it open.

One thread owns the connection (`owner.py`), and takes what is asked meanwhile as one transaction.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from smtpproxy.stores import sqlite_work as work
from smtpproxy.stores.base import FOREVER, Claim, StoreError, encode, encode_key, whole
from smtpproxy.stores.owner import Owner, Question

BATCH: Final = 100
"""Questions of one transaction: other processes wait for the lock that long, and so many greenlets go on in one turn."""
WAITING: Final = 20_000
"""Questions that may wait; then the disk is hopelessly slow, and the rules that ask have failed."""
SWEEP: Final = 10.0
"""Seconds between two looks for what has expired."""
BUSY: Final = 5.0
"""Seconds that a transaction waits for other processes."""


class _Task(NamedTuple):
    """A piece of work with its arguments."""

    work: work.Work
    arguments: tuple[Any, ...]


class SqliteStore:
    """`path` is made if it is absent. The file is opened, and the thread begins, with the first question.

    `clock` tells seconds since the epoch, in all processes alike; it is read in the thread.
    """

    def __init__(self, path: Path | str, clock: Callable[[], float] = time.time) -> None:
        self._owner = Owner(_File(str(path), clock), batch=BATCH, waiting=WAITING, refusal=_refusal)

    def get(self, key: str) -> Any:
        return self._ask(work.get, encode_key(key))

    def set(self, key: str, value: Any, expires: float = FOREVER) -> None:
        if value is None:
            self._ask(work.forget, encode_key(key))
        else:
            self._ask(work.put, encode_key(key), encode(value), expires)

    def increment(self, key: str, by: int = 1, expires: float = FOREVER) -> int:
        return int(self._ask(work.increment, encode_key(key), whole(by), expires))

    def add(self, key: str, member: str, expires: float = FOREVER) -> bool:
        return bool(self._ask(work.add, encode_key(key), encode_key(member), expires))

    def remove(self, key: str, member: str) -> bool:
        return bool(self._ask(work.remove, encode_key(key), encode_key(member)))

    def has(self, key: str, member: str) -> bool:
        return bool(self._ask(work.has, encode_key(key), encode_key(member)))

    def members(self, key: str) -> tuple[str, ...]:
        return tuple(self._ask(work.members, encode_key(key)))

    def hit(self, key: str, window: float, by: int = 1) -> int:
        return int(self._ask(work.hit, encode_key(f"{key}\n{window:g}"), window, whole(by)))

    def hits(self, key: str, window: float) -> int:
        return int(self._ask(work.hits, encode_key(f"{key}\n{window:g}")))

    def take(self, claims: Sequence[Claim]) -> int | None:
        found: int | None = self._ask(work.take, list(work.wanted(claims)))
        return found

    def lease(self, key: str, holder: str, seconds: float) -> bool:
        return bool(self._ask(work.lease, encode_key(key), encode_key(holder), seconds))

    def release(self, key: str, holder: str) -> bool:
        return bool(self._ask(work.release, encode_key(key), encode_key(holder)))

    def close(self) -> None:
        """What was asked is answered; the file is closed when this returns."""
        self._owner.close()

    def _ask(self, task: work.Work, *arguments: Any) -> Any:
        return self._owner.ask(_Task(task, arguments))


def _refusal(why: str) -> StoreError:
    return StoreError(f"the store: {why}")


class _File:
    """The connection, in the thread that has it."""

    def __init__(self, path: str, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._swept = 0.0

    def answer(self, batch: list[Question[_Task]]) -> None:
        """All of it in one transaction. Raises nothing: errors stand in the questions."""
        try:
            connection = self._connection or self._open()
            self._transact(connection, batch)
        except (sqlite3.Error, OSError) as error:
            for question in batch:
                question.error = StoreError(f"{self._path}: {error}")
            if self._connection is not None and self._connection.in_transaction:
                self._connection.rollback()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None)
        try:
            work.prepare(connection)
        except sqlite3.Error:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _transact(self, connection: sqlite3.Connection, batch: list[Question[_Task]]) -> None:
        writes = any(question.task.work not in work.READS for question in batch)
        connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
        now = self._clock()
        for question in batch:
            try:
                question.result = question.task.work(connection, now, *question.task.arguments)
            except ValueError as error:
                question.error = error
        if writes and abs(now - self._swept) >= SWEEP:
            self._swept = now if work.sweep(connection, now) else self._swept
        connection.execute("COMMIT")
