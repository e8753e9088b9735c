"""A folder of whole messages: held at first, then one folder a day, two files a message, to be browsed with any tool.

    DAY/NAME.eml    the message as it would have gone out
    DAY/NAME.json   its envelope, who sent it, why it is here
    .held/NAME.*    not promised to anybody yet; locked by the process that holds it, and dropped once that is gone

Every call may wait for the disk. What stands in a day's folder is synced, both files and their folders.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

HELD = ".held"


class Slip(Struct, omit_defaults=True):
    """What is known of a message. `time` is in seconds since the epoch, `id` finds its trace."""

    id: str
    time: float
    sender: str
    recipients: list[str]
    reason: str
    rule: str = ""
    handoff: str = ""
    params: dict[str, str | None] = {}
    client: dict[str, str] = {}

    @property
    def day(self) -> str:
        return time.strftime("%Y-%m-%d", time.gmtime(self.time))


class Holding:
    """A message on its way into the folder."""

    __slots__ = ("_descriptor", "_held", "_shelf", "name", "slip")

    def __init__(self, shelf: Path, slip: Slip) -> None:
        """Raises OSError."""
        self.slip = slip
        self._shelf = shelf
        self._held = shelf / HELD
        _folder(self._held)
        self.name, self._descriptor = self._create()

    def write(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def sync(self) -> None:
        """From here on the message outlives a crash, but is still held."""
        os.fsync(self._descriptor)
        note = os.open(self._path(".json"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            data = memoryview(msgspec.json.format(msgspec.json.encode(self.slip), indent=2) + b"\n")
            while data:
                data = data[os.write(note, data) :]
            os.fsync(note)
        finally:
            os.close(note)
        _sync(self._held)

    def commit(self) -> None:
        """Into the folder of its day. The slip goes last: with it the message is there."""
        day = self._shelf / self.slip.day
        _folder(day)
        for suffix in (".eml", ".json"):
            os.rename(self._path(suffix), day / f"{self.name}{suffix}")
        _sync(day)
        _sync(self._held)
        self._close()

    def drop(self) -> None:
        """As if it had never been."""
        for folder in (self._shelf / self.slip.day, self._held):
            for suffix in (".json", ".eml"):
                (folder / f"{self.name}{suffix}").unlink(missing_ok=True)
        self._close()

    def _create(self) -> tuple[str, int]:
        """The id is its name; with a number when one mail comes here twice, by two hand-offs."""
        number = 1
        while True:
            name = self.slip.id if number == 1 else f"{self.slip.id}-{number}"
            with suppress(FileExistsError):
                descriptor = os.open(self._held / f"{name}.eml", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                return name, descriptor
            number += 1

    def _path(self, suffix: str) -> Path:
        return self._held / f"{self.name}{suffix}"

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Item:
    """A message in the folder."""

    __slots__ = ("message", "note", "slip")

    def __init__(self, note: Path, slip: Slip) -> None:
        self.note = note
        self.message = note.with_suffix(".eml")
        self.slip = slip

    @property
    def name(self) -> str:
        return self.note.stem

    def remove(self) -> None:
        self.note.unlink()
        self.message.unlink(missing_ok=True)
        _sync(self.note.parent)
        with suppress(OSError):
            self.note.parent.rmdir()

    def keep_for(self, recipients: list[str]) -> None:
        """Only these still wait for it."""
        self.slip.recipients = recipients
        fresh = self.note.with_name(f".{self.name}.new")
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(self.slip), indent=2) + b"\n")
        fresh.replace(self.note)
        _sync(self.note.parent)


def items(shelf: Path) -> Iterator[Item]:
    """All messages, the oldest first; what is no message of ours is left alone."""
    for note in sorted(shelf.glob("[0-9]*/*.json"), key=lambda path: (path.parent.name, path.name)):
        with suppress(OSError, msgspec.DecodeError):
            yield Item(note, msgspec.json.decode(note.read_bytes(), type=Slip))


def drop_orphans(shelf: Path) -> int:
    """Remove what was held by processes that are gone: nobody was promised it. How many messages that were."""
    dropped = 0
    for message in (shelf / HELD).glob("*.eml"):
        with suppress(FileNotFoundError), message.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            message.with_suffix(".json").unlink(missing_ok=True)
            message.unlink()
            dropped += 1
    for note in (shelf / HELD).glob("*.json"):
        dropped += _torn(shelf, note)
    return dropped


def _torn(shelf: Path, note: Path) -> int:
    """A slip whose message had gone before it: the process ended between the two renames, before it had answered."""
    if note.with_suffix(".eml").exists():
        return 0
    for message in shelf.glob(f"[0-9]*/{note.stem}.eml"):
        with message.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return 0
        message.unlink()
    note.unlink(missing_ok=True)
    return 1


def _folder(folder: Path) -> None:
    """Make it, and have its name on disk."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
