"""Command and reply lines out of a stream of octets (RFC 5321 2.3.8, limits 4.5.3.1.4)."""

from __future__ import annotations

BEGINNING = 8
"""Octets that are kept of a line that is dropped: enough to tell a verb."""


class LineTooLong(Exception):
    """A line exceeded the limit. It was dropped, but for its ``beginning``: the next line is in step again."""

    def __init__(self, limit: int, beginning: bytes) -> None:
        super().__init__(f"line of more than {limit} octets")
        self.beginning = beginning


class LineFlood(Exception):
    """So much came without a line end that the peer cannot be speaking SMTP: hang up."""


class LineBuffer:
    """Holds what was received and not yet read. Memory stays within `limit` plus what one feed brought.

    `limit` counts the octets of a line without its line end and may be changed at any time. A bare LF ends a command
    line too, as in Postfix; in message data that is never so (see dots.py).
    """

    __slots__ = ("_beginning", "_data", "_dropped", "_position", "flood", "limit")

    def __init__(self, limit: int = 4096, flood: int = 1 << 20) -> None:
        self.limit = limit
        self.flood = flood
        self._data = b""
        self._position = 0
        self._dropped = 0
        self._beginning = b""

    def feed(self, data: bytes) -> None:
        """Append what was received."""
        if self._position < len(self._data):
            self._data = self._data[self._position :] + data
        else:
            self._data = data
        self._position = 0

    def next(self) -> bytes | None:
        """The next line without its line end, or None when no whole line is there.

        Raises LineTooLong once for each line over the limit, when its end has come, and LineFlood when the end does
        not come within `flood` octets.
        """
        data, start = self._data, self._position
        if start == len(data):
            return None
        end = data.find(b"\n", start)
        if end < 0:
            self._starve()
            return None
        self._position = end + 1
        if end > start and data[end - 1] == 13:
            end -= 1
        if end - start > self.limit or self._dropped:
            beginning = (self._beginning if self._dropped else data[start:end])[:BEGINNING]
            self._dropped = 0
            raise LineTooLong(self.limit, beginning)
        return data[start:end]

    def _starve(self) -> None:
        """Drop what cannot become a line within the limit any more; only its length is remembered."""
        waiting = len(self._data) - self._position
        # One octet of grace: it may be the CR of the line end.
        if self._dropped or waiting > self.limit + 1:
            if not self._dropped:
                self._beginning = self._data[self._position : self._position + BEGINNING]
            self._dropped += waiting
            self._data = b""
            self._position = 0
            if self._dropped > self.flood:
                raise LineFlood(f"{self._dropped} octets without a line end")

    def peek(self, count: int) -> bytes:
        """Up to `count` octets of what comes next, left in place."""
        return self._data[self._position : self._position + count]

    def rest(self) -> bytes:
        """Everything buffered, handed over and forgotten here (message data follows, or a TLS handshake)."""
        rest = self._data[self._position :]
        self._data = b""
        self._position = 0
        self._dropped = 0
        return rest

    def push(self, data: bytes) -> None:
        """Put `data` back in front of what is buffered."""
        self._data = data + self._data[self._position :]
        self._position = 0

    def __len__(self) -> int:
        return len(self._data) - self._position
