"""A message as it came: stored once, in the form it arrived in, and read as often as somebody asks.

Up to a threshold the octets stay in memory, above it they live in a file that has no name (mode 0600, gone with the
last reader or the process).  Both are read in chunks of 64 KB at most, so a large message is never whole in memory.
"""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain
from operator import itemgetter
from typing import NamedTuple

from smtpproxy.message.budget import Budget, Share
from smtpproxy.wire.dots import stuff_chunks, unstuff_chunks

CHUNK = 1 << 16
"""Octets read from a file, or handed out, at a time."""

_SMALL = 1 << 12
"""Chunks below this many octets are gathered: a client that sends three octets a packet must not cost forty each."""


class Body:
    """The octets of one message, header included, in the two forms of ``wire/dots.py``.

    Every call of ``wire()`` or ``content()`` begins again at the first octet, unless a subclass says otherwise.
    """

    __slots__ = ("dotted",)

    dotted: bool
    """A line may begin with a dot: wire form and content form may differ.  False is a promise that they do not."""

    @property
    def size(self) -> int:
        """Octets of the content form, -1 while nobody knows."""
        return -1

    def wire(self) -> Iterator[bytes]:
        """Dot-stuffed chunks (RFC 5321 4.5.2) without the closing dot; the last one ends with CRLF."""
        raise NotImplementedError

    def content(self) -> Iterator[bytes]:
        """The chunks as the sender meant them."""
        raise NotImplementedError

    def content_from(self, offset: int) -> Iterator[bytes]:
        """``content()`` behind its first ``offset`` octets."""
        return behind(self.content(), offset)


class StoredBody(Body):
    """A message kept in memory or in a file; made by ``BodyWriter`` and ``bytes_body``."""

    __slots__ = ("_chunks", "_file", "_marks", "_share", "_size", "_stuffed", "_tail")

    def __init__(
        self,
        chunks: list[bytes],
        file: SpillFile | None,
        *,
        dotted: bool,
        stuffed: bool,
        size: int,
        tail: bytes,
        share: Share | None = None,
    ) -> None:
        self._share = share
        self.dotted = dotted
        self._chunks = chunks
        self._file = file
        self._stuffed = stuffed
        self._size = size
        self._tail = tail
        self._marks: list[_Mark] | None = None

    @property
    def size(self) -> int:
        """Octets of the content form; counted once where the writer was not told."""
        if self._size < 0:
            self._size = sum(map(len, self.content()))
        return self._size

    @property
    def in_file(self) -> bool:
        """The message was too large for memory."""
        return self._file is not None

    def wire(self) -> Iterator[bytes]:
        """See ``Body``; a message whose last line is unfinished gets its line end here."""
        stored = self._stored()
        if self.dotted and not self._stuffed:
            stored = stuff_chunks(stored)
        ending = missing_line_end(self._tail)
        return chain(stored, (ending,)) if ending else stored

    def content(self) -> Iterator[bytes]:
        """See ``Body``."""
        return unstuff_chunks(self._stored()) if self.dotted and self._stuffed else self._stored()

    def content_from(self, offset: int) -> Iterator[bytes]:
        """See ``Body``; finds the place without reading what stands before it."""
        if self._marks is None:
            self._marks = list(self._lines() if self.dotted and self._stuffed else self._starts())
        mark = self._marks[bisect_right(self._marks, offset, key=itemgetter(0)) - 1]
        chunks = behind(self._stored(mark.chunk), mark.inside)
        chunks = unstuff_chunks(chunks) if self.dotted and self._stuffed else chunks
        return behind(chunks, offset - mark.content)

    def close(self) -> None:
        """Give the file back now rather than when the last reference goes."""
        if self._file is not None:
            self._file.close()

    def _stored(self, first: int = 0) -> Iterator[bytes]:
        return iter(self._chunks[first:]) if self._file is None else self._file.chunks(first * CHUNK)

    def _starts(self) -> Iterator[_Mark]:
        yield _Mark(0, 0, 0)
        if self._file is not None:
            yield from (_Mark(at, at // CHUNK, 0) for at in range(CHUNK, self._file.size, CHUNK))
        else:
            ends = accumulate(map(len, self._chunks))
            yield from (_Mark(end, chunk, 0) for chunk, end in enumerate(ends, 1))

    def _lines(self) -> Iterator[_Mark]:
        """A line end in each chunk: from there on unstuffing needs to know nothing of what was before."""
        yield _Mark(0, 0, 0)
        at, dots, tail = 0, 0, b""
        for number, chunk in enumerate(self._stored()):
            if not number and chunk.startswith(b"."):
                dots = 1
            dots += (tail + chunk[:2]).count(b"\r\n.")
            if (inside := chunk.find(b"\r\n")) >= 0:
                # The dot that a chunk before has left to this one is counted above, none is before this line end.
                yield _Mark(at + inside - dots, number, inside)
            dots += chunk.count(b"\r\n.")
            at, tail = at + len(chunk), chunk[-2:]


class _Mark(NamedTuple):
    """Where reading may begin: an offset in content form, the stored chunk, and the octet in it."""

    content: int
    chunk: int
    inside: int


class BodyWriter:
    """Takes a message chunk by chunk: in memory first, in a file once it is larger than ``memory`` octets.

    With a ``budget`` it goes to a file, too, when that is used up.
    """

    __slots__ = ("_chunks", "_file", "_folder", "_memory", "_pending", "_share", "_tail", "size")

    def __init__(self, memory: int = 1 << 20, folder: str | None = None, budget: Budget | None = None) -> None:
        self._share = None if budget is None else Share(budget)
        self.size = 0
        """Octets written so far, in the form they came in."""
        self._memory = memory
        self._folder = folder
        self._chunks: list[bytes] = []
        self._pending = bytearray()
        self._file: SpillFile | None = None
        self._tail = b""

    def write(self, chunk: bytes) -> None:
        """Add octets in wire form, cut anywhere.  Raises OSError when the file system is full."""
        self.size += len(chunk)
        self._tail = chunk[-2:] if len(chunk) > 1 else (self._tail + chunk)[-2:]
        if len(chunk) < _SMALL:
            self._pending += chunk
            if len(self._pending) < CHUNK:
                return
            chunk = b""
        self._store(chunk)

    def finish(self, dotted: bool, *, stuffed: bool = True, size: int = -1) -> StoredBody:
        """Hand the message over.

        ``dotted``: a line began with a dot.  ``stuffed``: the octets came in wire form (BDAT brings content form).
        ``size``: octets of the content form where the caller counted them; else it is counted when asked for.
        """
        if self._pending:
            self._store(b"")
        file, self._file = self._file, None
        if not dotted or not stuffed:
            size = self.size
        return StoredBody(self._chunks, file, dotted=dotted, stuffed=stuffed, size=size, tail=self._tail, share=self._share)

    def close(self) -> None:
        """Forget what was written (the message is not wanted after all); harmless after ``finish``."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._chunks = []
        self._pending.clear()

    def _store(self, chunk: bytes) -> None:
        chunks = [*sliced(bytes(self._pending)), *sliced(chunk)]
        self._pending.clear()
        if self._file is None:
            self._chunks += chunks
            if self.size <= self._memory and (self._share is None or self._share.grow(sum(map(len, chunks)))):
                return
            self._file = SpillFile(self._folder)
            chunks, self._chunks, self._share = self._chunks, [], None
        for piece in chunks:
            self._file.write(piece)


class SpillFile:
    """A file without a name: nobody else can open it, and nothing is left of it when the process dies."""

    __slots__ = ("_fd", "_size")

    def __init__(self, folder: str | None) -> None:
        with tempfile.TemporaryFile(buffering=0, dir=folder) as file:
            self._fd = os.dup(file.fileno())
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append; raises OSError when the file system is full."""
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._fd, rest, self._size)
            self._size += written
            rest = rest[written:]

    @property
    def size(self) -> int:
        """Octets written."""
        return self._size

    def chunks(self, at: int = 0) -> Iterator[bytes]:
        """All octets from ``at`` on, in chunks; readers do not disturb each other."""
        while at < self._size:
            chunk = os.pread(self._fd, CHUNK, at)
            if not chunk:
                raise OSError("a spilled message is shorter than it was")
            at += len(chunk)
            yield chunk

    def close(self) -> None:
        """Let the octets go; a reader that is under way fails."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            self.close()


def bytes_body(content: bytes) -> StoredBody:
    """A message from its content form, line ends as they are (notices, tests, replaced bodies)."""
    dotted = content.startswith(b".") or b"\n." in content
    chunks = list(sliced(content))
    return StoredBody(chunks, None, dotted=dotted, stuffed=False, size=len(content), tail=content[-2:])


def sliced(data: bytes) -> Iterable[bytes]:
    """The octets in chunks of 64 KB at most; none when there are none."""
    if len(data) <= CHUNK:
        return (data,) if data else ()
    return (data[at : at + CHUNK] for at in range(0, len(data), CHUNK))


def behind(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """The chunks without their first ``count`` octets."""
    for chunk in chunks:
        if len(chunk) > count:
            return chain((chunk[count:],), chunks) if count else chain((chunk,), chunks)
        count -= len(chunk)
    return chunks


def missing_line_end(tail: bytes) -> bytes:
    """What an unfinished last line lacks: the dot line must begin a line of its own.  ``tail``: the last two octets."""
    if not tail or tail.endswith(b"\r\n"):
        return b""
    return b"\n" if tail.endswith(b"\r") else b"\r\n"


def finished(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks, and the line end that the last line lacks."""
    tail = b""
    for chunk in chunks:
        tail = (tail + chunk[-2:])[-2:]
        yield chunk
    if ending := missing_line_end(tail):
        yield ending
