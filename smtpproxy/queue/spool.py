"""A folder of bodies, a file each. Every call may wait for the disk: they are made in the thread that owns the ledger.

.NAME   being written, promised to nobody
NAME    synced, with its name; it counts when the ledger names it
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from smtpproxy.message.body import CHUNK, Body, finished
from smtpproxy.queue.envelope import Damaged, Envelope
from smtpproxy.wire.dots import stuff_chunks


class Draft:
    """A body on its way into the folder; raises OSError everywhere."""

    __slots__ = ("_created", "_fd", "_published", "_spool", "_wanted", "crc", "dotted", "name", "size")

    def __init__(self, spool: Spool, wanted: str) -> None:
        self._spool = spool
        self._wanted = wanted
        self._fd = -1
        self._created = self._published = False
        self.name = wanted
        self.size = 0
        self.crc = 0
        self.dotted = False

    def write(self, chunks: list[bytes]) -> None:
        if self._fd < 0:
            self._create()
        for chunk in chunks:
            self.size += len(chunk)
            self.crc = zlib.crc32(chunk, self.crc)
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(self._fd, rest) :]

    def sync(self, chunks: list[bytes]) -> None:
        """The last chunks; then the octets are on the disk. What has failed once is never tried again: the kernel has
        forgotten the pages that it could not write."""
        self.write(chunks)
        try:
            os.fsync(self._fd)
        finally:
            self._close()

    def publish(self) -> None:
        """Its name; on the disk with the next ``Spool.sync``."""
        os.rename(self._spool.folder / f".{self.name}", self._spool.folder / self.name)
        self._published = self._spool.changed = True

    def drop(self) -> None:
        """As if it had never been."""
        self._close()
        if not self._created:
            return
        with suppress(FileNotFoundError):
            os.unlink(self._spool.folder / (self.name if self._published else f".{self.name}"))

    def _create(self) -> None:
        """With a number where one mail comes here more than once."""
        number = 1
        while True:
            try:
                path = self._spool.folder / f".{self.name}"
                self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                self._created = True
                return
            except FileExistsError:
                number += 1
                self.name = f"{self._wanted}-{number}"

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Spool:
    """The folder; it is one process's while that holds the slot's lock."""

    __slots__ = ("_fd", "changed", "folder")

    def __init__(self, folder: Path) -> None:
        """Raises OSError."""
        folder.mkdir(mode=0o700, exist_ok=True)
        self.folder = folder
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.changed = False

    def sync(self) -> None:
        """Names given since the last time are on the disk then."""
        if self.changed:
            os.fsync(self._fd)
            self.changed = False

    def remove(self, name: str) -> None:
        with suppress(OSError):  # it stays, and is swept when the slot is opened next
            os.unlink(self.folder / name)

    def leftovers(self) -> tuple[int, list[str]]:
        """When nobody writes yet: drops what was never promised; how many those were, and the names of all bodies."""
        names = os.listdir(self.folder)
        held = [name for name in names if name.startswith(".")]
        for name in held:
            os.unlink(self.folder / name)
        return len(held), [name for name in names if not name.startswith(".")]

    def close(self) -> None:
        os.close(self._fd)


class SpooledBody(Body):
    """The body of an envelope, read from its file in chunks.

    Raises Damaged, at the latest behind the last octet: the one who sends it has not said then that it ends there.
    """

    __slots__ = ("_crc", "_path", "_size")

    def __init__(self, folder: Path, envelope: Envelope) -> None:
        self._path = folder / envelope.name
        self._size = envelope.size
        self._crc = envelope.crc
        self.dotted = envelope.dotted

    @property
    def size(self) -> int:
        """See ``Body``."""
        return self._size

    def wire(self) -> Iterator[bytes]:
        """See ``Body``."""
        return finished(stuff_chunks(self.content())) if self.dotted else finished(self.content())

    def content(self) -> Iterator[bytes]:
        """See ``Body``."""
        size = crc = 0
        try:
            with self._path.open("rb", buffering=0) as file:
                while chunk := file.read(CHUNK):
                    size += len(chunk)
                    crc = zlib.crc32(chunk, crc)
                    yield chunk
        except OSError as error:
            raise Damaged(f"its body cannot be read: {error.strerror or error}") from None
        if (size, crc) != (self._size, self._crc):
            raise Damaged(f"its body is not what was written ({size} octets, {self._size} were)")
