"""What the owner of the SQLite file does: one function a question, each a single statement or a look before it.

One table holds all kinds. `part` is the member of a set, the slice of a window, else empty; what never expires has an
infinite `expires`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from smtpproxy.stores.base import SLICES, Claim, asked_before, decode, decode_key, encode_key, whole

Work = Callable[..., Any]
"""work(connection, now, *arguments)"""

SWEPT_AT_ONCE: Final = 500

_VALUE, _MEMBER, _HIT, _LEASE = range(4)

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS items (
  kind INTEGER NOT NULL, key BLOB NOT NULL, part BLOB NOT NULL, value, expires REAL NOT NULL,
  PRIMARY KEY (kind, key, part)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_by_expiry ON items (expires);
"""
_PUT: Final = "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?)"
_FIND: Final = "SELECT value FROM items WHERE kind = ? AND key = ? AND part = ? AND expires > ?"
_INCREMENT: Final = """
INSERT INTO items VALUES (0, :key, x'', :by, :until)
ON CONFLICT DO UPDATE SET
  value = CASE WHEN expires <= :now THEN :by ELSE value + :by END,
  expires = CASE WHEN expires <= :now THEN :until ELSE expires END
WHERE expires <= :now OR typeof(value) = 'integer'
RETURNING value
"""
_OTHERS: Final = "SELECT count(*) FROM items WHERE kind = ? AND key = ? AND part <> ? AND expires > ?"
_HIT_ONE: Final = """
INSERT INTO items VALUES (2, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value
"""
_LEASE_ONE: Final = """
INSERT INTO items VALUES (3, :key, x'', :holder, :until)
ON CONFLICT DO UPDATE SET value = :holder, expires = :until WHERE expires <= :now OR value = :holder
RETURNING 1
"""
_SWEEP: Final = """
DELETE FROM items WHERE (kind, key, part) IN
  (SELECT kind, key, part FROM items WHERE expires <= ? LIMIT ?)
"""


def prepare(connection: sqlite3.Connection) -> None:
    """Make the table if it is not there. WAL: readers and the writer do not wait for each other."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.executescript(_SCHEMA)


def sweep(connection: sqlite3.Connection, now: float) -> bool:
    """Forget some of what has expired; whether that was all of it."""
    return connection.execute(_SWEEP, (now, SWEPT_AT_ONCE)).rowcount < SWEPT_AT_ONCE


def get(connection: sqlite3.Connection, now: float, key: bytes) -> Any:
    row = connection.execute(_FIND, (_VALUE, key, b"", now)).fetchone()
    return None if row is None else decode(row[0])


def put(connection: sqlite3.Connection, now: float, key: bytes, value: int | bytes, expires: float) -> None:
    connection.execute(_PUT, (_VALUE, key, b"", value, now + expires))


def forget(connection: sqlite3.Connection, now: float, key: bytes) -> None:
    connection.execute("DELETE FROM items WHERE kind = ? AND key = ?", (_VALUE, key))


def increment(connection: sqlite3.Connection, now: float, key: bytes, by: int, expires: float) -> int:
    rows = connection.execute(_INCREMENT, {"key": key, "by": by, "now": now, "until": now + expires}).fetchall()
    if not rows:
        raise ValueError(f"{decode_key(key)} holds no whole number: nothing can be counted in it")
    return int(rows[0][0])


def add(connection: sqlite3.Connection, now: float, key: bytes, member: bytes, expires: float) -> bool:
    new = not has(connection, now, key, member)
    connection.execute(_PUT, (_MEMBER, key, member, 1, now + expires))
    return new


def remove(connection: sqlite3.Connection, now: float, key: bytes, member: bytes) -> bool:
    there = has(connection, now, key, member)
    connection.execute("DELETE FROM items WHERE kind = ? AND key = ? AND part = ?", (_MEMBER, key, member))
    return there


def has(connection: sqlite3.Connection, now: float, key: bytes, member: bytes) -> bool:
    return connection.execute(_FIND, (_MEMBER, key, member, now)).fetchone() is not None


def members(connection: sqlite3.Connection, now: float, key: bytes) -> list[str]:
    rows = connection.execute("SELECT part FROM items WHERE kind = ? AND key = ? AND expires > ?", (_MEMBER, key, now))
    return sorted(decode_key(part) for (part,) in rows)


def hit(connection: sqlite3.Connection, now: float, key: bytes, window: float, by: int) -> int:
    _count_in(connection, now, key, window, by)
    return hits(connection, now, key)


def _count_in(connection: sqlite3.Connection, now: float, key: bytes, window: float, by: int) -> None:
    width = window / SLICES
    number = int(now // width)
    connection.execute(_HIT_ONE, (key, b"%d" % number, by, (number + 1) * width + window))


def hits(connection: sqlite3.Connection, now: float, key: bytes) -> int:
    found = connection.execute("SELECT sum(value) FROM items WHERE kind = ? AND key = ? AND expires > ?", (_HIT, key, now))
    return int(found.fetchone()[0] or 0)


class Wanted(NamedTuple):
    """A claim as it is looked for; `member` is None for a window, `before` what claims in front of it ask of the same."""

    key: bytes
    limit: int
    seconds: float
    by: int
    member: bytes | None = None
    before: int = 0


def wanted(claims: Sequence[Claim]) -> Iterator[Wanted]:
    """Raises TypeError and ValueError for a claim that cannot be kept."""
    for number, (key, limit, seconds, by) in enumerate(claims):
        if isinstance(by, str):
            yield Wanted(encode_key(key), limit, seconds, 1, member=encode_key(by))
        else:
            before = asked_before(claims, number)
            yield Wanted(encode_key(f"{key}\n{seconds:g}"), limit, seconds, whole(by), before=before)


def take(connection: sqlite3.Connection, now: float, claims: Sequence[Wanted]) -> int | None:
    for number, claim in enumerate(claims):
        if 0 < claim.limit < _needed(connection, now, claim):
            return number
    for key, _, seconds, by, member, _ in claims:
        if member is not None:
            add(connection, now, key, member, seconds)
        elif by:
            _count_in(connection, now, key, seconds, by)
    return None


def _needed(connection: sqlite3.Connection, now: float, claim: Wanted) -> int:
    if claim.member is not None:
        found = connection.execute(_OTHERS, (_MEMBER, claim.key, claim.member, now))
        return int(found.fetchone()[0]) + 1
    return hits(connection, now, claim.key) + max(claim.by, 1) + claim.before if claim.by >= 0 else 0


def lease(connection: sqlite3.Connection, now: float, key: bytes, holder: bytes, seconds: float) -> bool:
    given = {"key": key, "holder": holder, "now": now, "until": now + seconds}
    return bool(connection.execute(_LEASE_ONE, given).fetchall())


def release(connection: sqlite3.Connection, now: float, key: bytes, holder: bytes) -> bool:
    held = "kind = ? AND key = ? AND value = ? AND expires > ?"
    return connection.execute(f"DELETE FROM items WHERE {held}", (_LEASE, key, holder, now)).rowcount > 0


READS: Final = frozenset({get, has, members, hits})
"""Questions that change nothing: they need no lock."""
