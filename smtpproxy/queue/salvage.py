"""A ledger that SQLite cannot read any more: it is put aside whole, and what can still be read of it goes into a new one.

    DATA/queue/damaged/SLOT-N/    the damaged files, and the bodies that no mail which could be read has
    SLOT/.salvage                 the new one being made; dropped when that came to no end
    SLOT/ledger.salvaged          the new one, complete: it takes the place of the old, also when that was interrupted
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from smtpproxy.queue import rows
from smtpproxy.queue.files import sync_folder

_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_MISSES: Final = 100_000
"""Keys that are tried one by one behind the last that could be read."""
_NEW, _COMPLETE = ".salvage", "ledger.salvaged"


class Salvaged(NamedTuple):
    """`mails` are in the new ledger, `bodies` without one lie in `folder`, with the old ledger."""

    folder: Path
    mails: int
    bodies: int


def damaged(error: Exception) -> bool:
    """Whether it says that the file is not what SQLite wrote."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


def bereft(slot: Path) -> bool:
    """There are bodies, but the ledger that named them is gone."""
    ledger = slot / "ledger.sqlite"
    if ledger.exists() and ledger.stat().st_size:
        return False
    return any(not name.startswith(".") for name in os.listdir(slot / "bodies"))


def salvage(slot: Path) -> Salvaged:
    """Make the new ledger; ``finish`` puts it in its place. Raises OSError, sqlite3.Error."""
    new = slot / _NEW
    for path in slot.glob(f"{_NEW}*"):
        path.unlink()
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        rows.make_tables(connection)
        connection.execute("BEGIN")
        mails = _copy(slot / "ledger.sqlite", connection)
        connection.execute("COMMIT")
        named = rows.names(connection)
    place = _place(slot)
    bodies = _move_unnamed(slot / "bodies", named, place)
    os.rename(new, slot / _COMPLETE)
    sync_folder(slot)
    return Salvaged(place, mails, bodies)


def finish(slot: Path, place: Path | None = None) -> None:
    """Where a new ledger is complete it becomes the ledger. Nobody may have the old one open."""
    if not (slot / _COMPLETE).exists():
        return
    place = place or _place(slot)
    for path in slot.glob("ledger.sqlite*"):
        os.rename(path, place / path.name)
    sync_folder(place)
    os.rename(slot / _COMPLETE, slot / "ledger.sqlite")
    sync_folder(slot)


def _copy(path: Path, new: sqlite3.Connection) -> int:
    """How many mails could be read."""
    try:
        old = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error:
        return 0
    old.text_factory = lambda raw: raw.decode("utf-8", "replace")
    with closing(old):
        count = 0
        for mail in _mails(old):
            count += rows.restore(new, mail, _results(old, mail[0]))
    return count


def _mails(old: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    key = misses = 0
    while misses < _MISSES:
        try:
            for mail in old.execute(rows.FROM, (key,)):
                key, misses = mail[0], 0
                yield mail
            return
        except sqlite3.DatabaseError as error:
            if not damaged(error) or error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                return
            key += 1
            misses += 1


def _results(old: sqlite3.Connection, key: int) -> list[tuple[Any, ...]] | None:
    try:
        return old.execute("SELECT * FROM results WHERE mail = ?", (key,)).fetchall()
    except sqlite3.DatabaseError:
        return None


def _place(slot: Path) -> Path:
    number = 1
    while True:
        path = slot.parent / "damaged" / f"{slot.name}-{number}"
        try:
            path.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            number += 1
        else:
            return path


def _move_unnamed(bodies: Path, named: set[str], place: Path) -> int:
    """What is being written (.NAME) is nobody's yet, and stays."""
    unnamed = [name for name in os.listdir(bodies) if not name.startswith(".") and name not in named]
    if unnamed:
        (place / "bodies").mkdir(mode=0o700)
        for name in unnamed:
            os.rename(bodies / name, place / "bodies" / name)
        sync_folder(place / "bodies")
    return len(unnamed)
