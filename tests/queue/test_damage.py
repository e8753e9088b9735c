"""A ledger that is not what was written: it is set aside, what can be read of it goes on, and nothing is stopped by it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from smtpproxy.queue.envelope import Envelope, Party
from smtpproxy.queue.ledger import Again, LedgerError, Result
from smtpproxy.queue.slots import Slots
from smtpproxy.queue.sqlite import SqliteLedger
from smtpproxy.testing.waiting import FixedClock

CONTENT = b"Subject: x\r\n\r\ntext\r\n"
PAGE = 4096
MAILS = 300


class Slot:
    """A slot, what its ledger has logged, and the file under it."""

    def __init__(self, folder: Path, clock: FixedClock) -> None:
        self.path = folder / "1"
        self.file = self.path / "ledger.sqlite"
        self.bodies = self.path / "bodies"
        self.clock = clock
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.ledger = self._opened()

    def _opened(self) -> SqliteLedger:
        return SqliteLedger(self.path, self.clock, lambda event, **facts: self.log.append((event, facts)))

    def reopen(self) -> SqliteLedger:
        self.ledger = self._opened()
        return self.ledger

    def put(self, count: int) -> None:
        for number in range(count):
            draft = self.ledger.draft(f"m{number:03}")
            self.ledger.hold(draft, [CONTENT])
            rcpts = [Party(f"b{number}@example.com"), Party("c@example.com")]
            self.ledger.add(draft, Envelope(f"m{number:03}", self.clock(), Party("a@client.example"), rcpts))

    def leaves(self) -> list[int]:
        """Offsets of the pages that hold mails alone, in order (file format 1.6: the first octet of a table's leaf is 13)."""
        data = self.file.read_bytes()
        return [at for at in range(PAGE, len(data), PAGE) if data[at] == 13 and b"client.example" in data[at : at + PAGE]]

    def damage(self, offset: int) -> None:
        with self.file.open("r+b") as file:
            file.seek(offset)
            file.write(b"\xa5" * PAGE)

    @property
    def damages(self) -> list[dict[str, Any]]:
        return [facts for event, facts in self.log if event == "queue_damaged"]


@pytest.fixture
def slot(tmp_path: Path, clock: FixedClock) -> Iterator[Slot]:
    slot = Slot(tmp_path, clock)
    yield slot
    slot.ledger.close()


def names(ledger: SqliteLedger) -> list[str]:
    return [entry.envelope.id for entry in ledger.lease(1000)]


def test_a_record_that_was_changed_is_set_aside_alone(slot: Slot) -> None:
    slot.put(3)
    with closing(sqlite3.connect(slot.file)) as connection, connection:
        connection.execute("UPDATE mails SET envelope = CAST(replace(envelope, 'b1@', 'x1@') AS BLOB)")
    assert names(slot.ledger) == ["m000", "m002"]
    reason = "its record is not what was written"
    assert slot.log == [("queue_aside", {"level": "error", "slot": "1", "key": 2, "reason": reason})]


def test_what_became_of_recipients_and_cannot_be_read_has_nobody_asked_twice(slot: Slot) -> None:
    slot.put(2)
    for entry in slot.ledger.lease(2):
        slot.ledger.record(entry, [Result(0, "delivered", "250 Ok")], Again(slot.clock()))
    with closing(sqlite3.connect(slot.file)) as connection, connection:
        connection.execute("UPDATE results SET state = 'felivered' WHERE mail = 1")
    assert names(slot.ledger) == ["m001"]


def test_pages_that_were_overwritten_take_their_own_mails_with_them(slot: Slot) -> None:
    slot.put(MAILS)
    slot.ledger.close()
    leaves = slot.leaves()
    slot.damage(leaves[len(leaves) // 2])
    found = names(slot.reopen())
    (told,) = slot.damages
    place = Path(told["folder"])
    left = sorted(os.listdir(place / "bodies"))
    assert MAILS // 2 < len(found) < MAILS
    assert sorted(found + left) == [f"m{number:03}" for number in range(MAILS)]
    assert (told["saved"], told["lost"]) == (len(found), len(left))
    assert sorted(os.listdir(slot.bodies)) == sorted(found)
    assert (place / "ledger.sqlite").exists()


def test_what_was_known_of_recipients_is_known_behind_it(slot: Slot) -> None:
    slot.put(MAILS)
    first = slot.ledger.lease(1)[0]
    slot.ledger.record(first, [Result(0, "delivered", "250 Ok")], Again(slot.clock()))
    slot.ledger.close()
    slot.damage(slot.leaves()[-1])
    again = next(entry for entry in slot.reopen().lease(1000) if entry.key == first.key)
    assert (again.attempts, again.pending()) == (1, [1])


@pytest.mark.parametrize("what", ["its first page", "all of it", "the file itself"])
def test_where_nothing_can_be_read_the_bodies_are_kept(slot: Slot, what: str) -> None:
    slot.put(3)
    slot.ledger.close()
    if what == "its first page":
        slot.damage(0)
    elif what == "all of it":
        slot.file.write_bytes(b"")
    else:
        slot.file.unlink()
    assert names(slot.reopen()) == []
    (told,) = slot.damages
    assert sorted(os.listdir(Path(told["folder"]) / "bodies")) == ["m000", "m001", "m002"]
    slot.put(1)
    assert names(slot.ledger) == ["m000"]


def test_a_ledger_that_is_damaged_while_it_is_used(slot: Slot) -> None:
    slot.put(MAILS)
    leased = [entry.envelope.id for entry in slot.ledger.lease(5)]
    with closing(sqlite3.connect(slot.file)) as other:  # everything is in the file then, and read anew from there
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        slot.damage(slot.leaves()[-1])
        other.execute("PRAGMA user_version = 1")
    with pytest.raises(LedgerError, match="malformed"):
        slot.ledger.lease(1000)
    found = names(slot.ledger)
    assert MAILS // 2 < len(found) < MAILS
    assert not set(found) & set(leased), "what was leased is still nobody else's"
    assert len(slot.damages) == 1
    slot.put(1)


def test_a_mending_that_was_interrupted_is_brought_to_its_end(slot: Slot) -> None:
    slot.put(2)
    slot.ledger.close()
    os.rename(slot.file, slot.path / "ledger.salvaged")
    slot.file.write_bytes(b"damaged")
    assert names(slot.reopen()) == ["m000", "m001"]
    assert (slot.path.parent / "damaged" / "1-1" / "ledger.sqlite").read_bytes() == b"damaged"


def test_a_slot_that_cannot_be_opened_holds_up_nobody(tmp_path: Path, clock: FixedClock) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "bodies").write_text("a file where a folder should be")
    failed: list[str] = []
    slots = Slots(tmp_path, lambda path: SqliteLedger(path, clock), failed.append)
    assert slots.home().folder.name == "2"
    assert slots.adopt() is None
    assert len(failed) == 1
    slots.close()
