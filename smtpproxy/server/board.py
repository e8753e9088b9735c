"""What the processes of an instance count together: shared memory that is made before the first of them is forked.

Every process has a column that only it writes; who wants a sum reads all of them. So nothing is locked, and a process that
dies takes nothing with it: the master wipes its column. Counts of two processes may run past each other by as many
connections as there are processes; that is what they may exceed a limit by.

    head     number of columns in use, then which ones
    column   beat (u32)  total (u32)  connections by address, hashed into two rows of BUCKETS counts (u16)

An address is looked up in both rows and the lesser count holds, so that two addresses that share one bucket are hardly ever
taken for one another. The hash is that of the interpreter: keyed by a secret that forked processes share.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable

COLUMNS = 128
BUCKETS = 4096
_ROWS = 2
_COUNTS = _ROWS * BUCKETS
_HEAD = 4 * (COLUMNS + 1)
_FULL = 0xFFFF


class Board:
    """All columns."""

    __slots__ = ("_beats", "_counts", "_head", "_totals")

    def __init__(self) -> None:
        words = memoryview(mmap.mmap(-1, _HEAD + COLUMNS * (8 + 2 * _COUNTS)))
        self._head = words[:_HEAD].cast("I")
        self._beats = words[_HEAD : _HEAD + 4 * COLUMNS].cast("I")
        self._totals = words[_HEAD + 4 * COLUMNS : _HEAD + 8 * COLUMNS].cast("I")
        self._counts = words[_HEAD + 8 * COLUMNS :].cast("H")

    def take(self) -> int:
        """A free column, for a process that is about to be made. Raises LookupError when COLUMNS of them are there already."""
        used = self._used()
        column = next((column for column in range(COLUMNS) if column not in used), None)
        if column is None:
            raise LookupError("no more room for another process")
        self._set_used([*used, column])
        return column

    def free(self, column: int) -> None:
        """Whoever wrote it is gone, and what it counted with it."""
        self._set_used([other for other in self._used() if other != column])
        self._beats[column] = self._totals[column] = 0
        start = column * _COUNTS
        self._counts[start : start + _COUNTS] = memoryview(bytes(2 * _COUNTS)).cast("H")

    def beat(self, column: int) -> None:
        """Say that the process is alive."""
        self._beats[column] = (self._beats[column] + 1) & 0xFFFFFFFF

    def beats(self, column: int) -> int:
        return self._beats[column]

    def total(self) -> int:
        """Connections of all processes."""
        return sum([self._totals[column] for column in self._used()])

    def of_address(self, address: str) -> int:
        """Connections of all processes from this address, or under another name."""
        first, second = _places(address)
        starts = [column * _COUNTS for column in self._used()]
        return min(sum([self._counts[at + first] for at in starts]), sum([self._counts[at + second] for at in starts]))

    def enter(self, column: int, names: Iterable[str]) -> None:
        """Count a connection in, under its address and whatever else it is counted under."""
        self._totals[column] += 1
        for name in names:
            for place in _places(name):
                index = column * _COUNTS + place
                if self._counts[index] < _FULL:
                    self._counts[index] += 1

    def leave(self, column: int, names: Iterable[str]) -> None:
        """Count it out."""
        self._totals[column] -= 1
        for name in names:
            for place in _places(name):
                index = column * _COUNTS + place
                if self._counts[index]:
                    self._counts[index] -= 1

    def _used(self) -> list[int]:
        return self._head[1 : 1 + self._head[0]].tolist()

    def _set_used(self, columns: list[int]) -> None:
        """Processes read this at any time: the number grows after the entries, and shrinks before them."""
        if len(columns) < self._head[0]:
            self._head[0] = len(columns)
        for place, column in enumerate(columns, 1):
            self._head[place] = column
        self._head[0] = len(columns)


def _places(address: str) -> tuple[int, int]:
    number = hash(address)
    return number % BUCKETS, BUCKETS + (number >> 12) % BUCKETS
