"""The folder of rule files, watched by cheap looks at sizes and times.

Editors write in place, or write beside and rename, or delete first. So a changed file counts when nothing was written
to it for a moment (or two looks saw the same), and an absent or emptied one only after it has been so for a while:
neither half a file nor the moment between two halves of a save ever becomes the rule.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from smtpproxy.scripting.errors import FolderRefused
from smtpproxy.scripting.source import Source

QUIET = 0.1
ABSENCE = 2.0
SIZE_LIMIT = 4 << 20


class Stamp(NamedTuple):
    """What a change of a file changes."""

    modified: int
    changed: int
    size: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        return cls(found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


class Folder:
    """`sources` is what counts now, by file name. `clock` is monotonic, `now` the wall clock that file times are in.

    Seconds.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self.sources: dict[str, Source] = {}
        self._clock = clock
        self._now = now
        self._read: dict[str, Stamp] = {}
        self._seen: dict[str, Stamp] = {}
        self._missed: dict[str, float] = {}

    def load(self) -> None:
        """Take everything as it is at this moment. Raises FolderRefused; a missing folder has no files."""
        self._seen = self._look()
        self.sources.clear()
        self._read.clear()
        self._missed.clear()
        for file, stamp in self._seen.items():
            self._take(file, stamp)

    def poll(self) -> bool:
        """Look, and take what has changed: True when `sources` are no longer what they were. Raises FolderRefused."""
        if self.sources and not self.path.is_dir():
            # unmounted or moved away: rules are deleted one by one, not by losing sight of them
            raise FolderRefused(f"{self.path} is gone; delete its files to be without rules")
        seen = self._look()
        changed = False
        for file, stamp in seen.items():
            self._missed.pop(file, None)
            if stamp != self._read.get(file) and self._settled(file, stamp):
                changed |= self._take(file, stamp)
        for file in self.sources.keys() - seen.keys():
            changed |= self._absent(file)
        self._seen = seen
        return changed

    def _look(self) -> dict[str, Stamp]:
        try:
            if self.path.stat().st_mode & stat.S_IWOTH:
                raise FolderRefused(f"{self.path} can be written by everybody on this machine: chmod o-w it")
            with os.scandir(self.path) as found:
                names = [entry.name for entry in found if is_rule_file(entry.name)]
        except (FileNotFoundError, NotADirectoryError):
            return {}
        stamps = {name: stamp for name in sorted(names) if (stamp := self._stamp(name))}
        return {name: stamp for name, stamp in stamps.items() if stamp.size or name not in self.sources}

    def _stamp(self, file: str) -> Stamp | None:
        try:
            found = os.stat(self.path / file)
        except OSError:
            return None
        return Stamp.of(found) if stat.S_ISREG(found.st_mode) else None

    def _settled(self, file: str, stamp: Stamp) -> bool:
        return self._now() - stamp.modified / 1e9 >= QUIET or self._seen.get(file) == stamp

    def _take(self, file: str, stamp: Stamp) -> bool:
        """Read a file that has settled. False when it is being written after all, or has the bytes that count already."""
        source = self._source(file, stamp)
        if source is None:
            return False
        self._read[file] = stamp
        if file in self.sources and self.sources[file].digest == source.digest:
            return False
        self.sources[file] = source
        return True

    def _source(self, file: str, stamp: Stamp) -> Source | None:
        path = self.path / file
        try:
            with open(path, "rb") as opened:
                data = opened.read(SIZE_LIMIT + 1)
                if Stamp.of(os.fstat(opened.fileno())) != stamp:
                    return None
        except FileNotFoundError:
            return None
        except OSError as error:
            return Source(file, str(path), b"", error=f"cannot be read: {error.strerror}")
        if len(data) > SIZE_LIMIT:
            return Source(file, str(path), b"", error=f"is larger than {SIZE_LIMIT >> 20} MB")
        return Source(file, str(path), data)

    def _absent(self, file: str) -> bool:
        now = self._clock()
        if now - self._missed.setdefault(file, now) < ABSENCE:
            return False
        del self.sources[file], self._missed[file]
        self._read.pop(file, None)
        return True


def is_rule_file(name: str) -> bool:
    return name.endswith((".py", ".lua")) and not name.startswith((".", "_"))
