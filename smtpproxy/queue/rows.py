"""The tables of the SQLite engine, and what is done with them: each a statement or a few, within somebody's transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

from smtpproxy.queue.envelope import Damaged, Envelope, decode, encode
from smtpproxy.queue.ledger import KNOWN, Again, Aside, Entry, Gone, Result, Then

SCHEMA: Final = 1

QUEUED, HOLD, ASIDE = range(3)
STATES: Final = {QUEUED: "queued", HOLD: "hold", ASIDE: "aside"}

NEAR: Final = 10_000
"""Mails that are looked at for one of a domain that is not busy."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS mails (
  key INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, state INTEGER NOT NULL, domain TEXT NOT NULL, due REAL NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '', envelope BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS mails_due ON mails (due) WHERE state = 0;
CREATE TABLE IF NOT EXISTS results (
  mail INTEGER NOT NULL, rcpt INTEGER NOT NULL, state TEXT NOT NULL, reply TEXT NOT NULL, host TEXT NOT NULL,
  PRIMARY KEY (mail, rcpt)
) WITHOUT ROWID;
"""
_INSERT: Final = "INSERT INTO mails (name, state, domain, due, envelope) VALUES (?, 0, ?, ?, ?)"
_DUE: Final = """
SELECT key, attempts, envelope FROM (
  SELECT key, attempts, envelope, domain FROM mails
  WHERE state = 0 AND due <= ? AND key NOT IN (SELECT key FROM leased) ORDER BY due LIMIT ?
) WHERE domain NOT IN (SELECT value FROM json_each(?)) LIMIT ?
"""
FROM: Final = "SELECT key, name, state, domain, due, attempts, reason, envelope FROM mails WHERE key > ? ORDER BY key"
"""All that there is of mails behind a key, as ``restore`` takes it."""
_ALL: Final = "SELECT key, name, state, due, attempts, reason, envelope FROM mails ORDER BY key"


class UnknownSchema(Exception):
    """Another release has written this; str() says the way out."""


class Row(NamedTuple):
    """A mail as `smtpproxy queue` sees it; `envelope` is None where its record is damaged."""

    key: int
    name: str
    state: str
    due: float
    attempts: int
    reason: str
    envelope: Envelope | None
    results: dict[int, Result]


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables where there are none. Raises UnknownSchema."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA:
        raise UnknownSchema(
            f"it was written by a newer release (schema {version}, this one knows {SCHEMA}): start that release again and let "
            "it deliver what waits, or move the folder away"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if version < SCHEMA:
        make_tables(connection)


def make_tables(connection: sqlite3.Connection) -> None:
    connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {SCHEMA}; COMMIT")


def own(connection: sqlite3.Connection) -> None:
    """Leases are the connection's: with its process they are gone."""
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("CREATE TEMP TABLE leased (key INTEGER PRIMARY KEY)")


def row(envelope: Envelope) -> tuple[str, str, float, bytes]:
    """What ``insert`` takes."""
    return envelope.name, envelope.recipients[0].domain, envelope.due, encode(envelope)


def insert(connection: sqlite3.Connection, row: tuple[str, str, float, bytes]) -> None:
    connection.execute(_INSERT, row)


def mend(connection: sqlite3.Connection, now: float, horizon: float) -> None:
    """What waits for a moment that no schedule can have meant has seen the clock go back: it is due."""
    connection.execute("UPDATE mails SET due = ? WHERE state = 0 AND due > ?", (now, now + horizon))


def lease(
    connection: sqlite3.Connection, now: float, limit: int, busy: Collection[str]
) -> tuple[list[Entry], list[tuple[int, str]]]:
    """What is due; and the keys of what is damaged, which is set aside, each with the reason."""
    near = NEAR if busy else limit
    entries, damaged = [], []
    for key, attempts, record in connection.execute(_DUE, (now, near, json.dumps(list(busy)), limit)).fetchall():
        try:
            entries.append(Entry(key, decode(record), attempts, _results(connection, key) if attempts else {}))
        except Damaged as why:
            set_aside(connection, key, str(why))
            damaged.append((key, str(why)))
    take(connection, [(entry.key,) for entry in entries])
    return entries, damaged


def take(connection: sqlite3.Connection, keys: Sequence[tuple[int]]) -> None:
    connection.executemany("INSERT INTO leased VALUES (?)", keys)


def recover(connection: sqlite3.Connection) -> None:
    """What was recorded of an attempt that never came to its end counts: that was an attempt."""
    connection.execute("UPDATE mails SET attempts = 1 WHERE attempts = 0 AND key IN (SELECT mail FROM results)")


def record(connection: sqlite3.Connection, entry: Entry, results: Sequence[Result], then: Then | None) -> None:
    key = entry.key
    if not isinstance(then, Gone):
        rows = [(key, result.rcpt, result.state, result.reply, result.host) for result in results]
        connection.executemany("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", rows)
    if then is None:
        return
    if isinstance(then, Gone):
        remove(connection, key)
    elif isinstance(then, Again):
        connection.execute("UPDATE mails SET due = ?, attempts = attempts + 1 WHERE key = ?", (then.due, key))
    elif isinstance(then, Aside):
        set_aside(connection, key, then.reason)
    connection.execute("DELETE FROM leased WHERE key = ?", (key,))


def remove(connection: sqlite3.Connection, key: int) -> None:
    connection.execute("DELETE FROM mails WHERE key = ?", (key,))
    connection.execute("DELETE FROM results WHERE mail = ?", (key,))


def set_aside(connection: sqlite3.Connection, key: int, reason: str) -> None:
    connection.execute("UPDATE mails SET state = ?, reason = ? WHERE key = ?", (ASIDE, reason, key))


def hold(connection: sqlite3.Connection, key: int) -> None:
    connection.execute("UPDATE mails SET state = ?, reason = 'held by hand' WHERE key = ?", (HOLD, key))


def release(connection: sqlite3.Connection, key: int, now: float, aside: bool) -> None:
    """Due now; also what is held or set aside, if that is wanted."""
    connection.execute("UPDATE mails SET due = ? WHERE key = ? AND state = 0", (now, key))
    if aside:
        connection.execute("UPDATE mails SET due = ?, state = 0, reason = '' WHERE key = ?", (now, key))


def restore(connection: sqlite3.Connection, mail: tuple[Any, ...], results: Sequence[tuple[Any, ...]] | None) -> int:
    """A mail out of a damaged ledger; how many it makes. `results` are None where they cannot be read: who has the mail
    already is not known then."""
    key, name, state, domain, due, attempts, reason, record = mail
    if not (isinstance(name, str) and isinstance(due, float) and isinstance(attempts, int) and isinstance(record, bytes)):
        return 0
    if state not in STATES or (results is None and attempts):
        state, reason = ASIDE, "its ledger was damaged: who has it already is not known"
    given = (key, name, state, str(domain), due, attempts, str(reason), record)
    connection.execute("INSERT INTO mails VALUES (?, ?, ?, ?, ?, ?, ?, ?)", given)
    connection.executemany("INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?, ?)", results or ())
    return 1


def names(connection: sqlite3.Connection) -> set[str]:
    """Of the bodies of all mail."""
    return {name for (name,) in connection.execute("SELECT name FROM mails")}


def leased(connection: sqlite3.Connection) -> list[tuple[int]]:
    return connection.execute("SELECT key FROM leased").fetchall()


def unnamed(connection: sqlite3.Connection, bodies: Collection[str]) -> set[str]:
    """Those of the bodies that no mail has."""
    return set(bodies) - names(connection)


def rows(connection: sqlite3.Connection) -> Iterator[Row]:
    """All mail, the oldest first."""
    for key, name, state, due, attempts, reason, data in connection.execute(_ALL):
        envelope, results, damage = _read(connection, key, data)
        yield Row(key, name, STATES.get(state, "damaged"), due, attempts, reason or damage, envelope, results)


def _read(connection: sqlite3.Connection, key: int, data: bytes) -> tuple[Envelope | None, dict[int, Result], str]:
    try:
        return decode(data), _results(connection, key), ""
    except Damaged as why:
        return None, {}, str(why)


def _results(connection: sqlite3.Connection, key: int) -> dict[int, Result]:
    found: Any = connection.execute("SELECT rcpt, state, reply, host FROM results WHERE mail = ?", (key,))
    results = {rcpt: Result(rcpt, state, reply, host) for rcpt, state, reply, host in found}
    if not {result.state for result in results.values()} <= KNOWN:
        raise Damaged("what became of its recipients cannot be read")
    return results
