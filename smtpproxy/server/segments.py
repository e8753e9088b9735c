"""Lines on disk in files that are bounded together: by size, by age; the oldest file goes first."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SEGMENTS = 16
"""Parts of the whole size: as much as one file holds, and as much as goes at a time."""
SUFFIX = ".jsonl"
BLOCK = 1 << 16


class Segments:
    """A folder of such files, written by this process; others may write beside us. Every call may wait for the disk."""

    __slots__ = ("_descriptor", "_folder", "_keep", "_number", "_opened", "_path", "_size", "_written")

    def __init__(self, folder: Path, size: int, keep: float) -> None:
        """`size` in octets and `keep` in seconds; 0 is no bound."""
        self._folder = folder
        self._size = size
        self._keep = keep
        self._descriptor = -1
        self._path: Path | None = None
        self._opened = 0.0
        self._written = 0
        self._number = 0

    def append(self, data: bytes) -> None:
        """Add whole lines. Raises OSError; what was written of them then is torn, and nothing follows it in that file."""
        if self._descriptor < 0 or self._full(len(data)):
            self._open()
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            self.close()
            raise
        self._written += len(data)

    def prune(self) -> None:
        """Remove what is too old or too much; the file that is being written stays."""
        files = [(path, path.stat()) for path in files_of(self._folder) if path != self._path]
        oldest = time.time() - self._keep if self._keep else 0.0
        total = self._written + sum(status.st_size for _, status in files)
        for path, status in files:
            if status.st_mtime < oldest or (self._size and total > self._size):
                path.unlink(missing_ok=True)
                total -= status.st_size

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._path, self._written = -1, None, 0

    def _full(self, more: int) -> bool:
        if self._size and self._written and self._written + more > self._size // SEGMENTS:
            return True
        return bool(self._keep) and time.time() - self._opened > self._keep / SEGMENTS

    def _open(self) -> None:
        self.close()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._opened = time.time()
        self._number += 1
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._opened))
        self._path = self._folder / f"{stamp}.{int(self._opened % 1 * 1_000_000):06d}-{os.getpid()}-{self._number}{SUFFIX}"
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        self.prune()


def files_of(folder: Path) -> list[Path]:
    """The files of a folder, the oldest first; none when there is no such folder."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def newest_first(folder: Path) -> Iterator[bytes]:
    """All lines, from the newest to the oldest; the last one of a file may be torn."""
    for path in reversed(files_of(folder)):
        with suppress(FileNotFoundError), path.open("rb") as file:
            yield from _backwards(file.fileno())


def _backwards(descriptor: int) -> Iterator[bytes]:
    end = os.fstat(descriptor).st_size
    rest = b""
    while end:
        start = max(0, end - BLOCK)
        rest = os.pread(descriptor, end - start, start) + rest
        end = start
        first, *lines = rest.split(b"\n")
        yield from (line for line in reversed(lines) if line)
        rest = first
    if rest:
        yield rest
