"""The message as it goes out: our lines on top, the header as edited, the body with its splices, read by pulling.

The body is never copied: what was not touched is taken from the stored chunks in the form that the reader wants.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

from smtpproxy.message.body import CHUNK, Body, behind, finished, missing_line_end, sliced
from smtpproxy.message.header import Field, HeaderBlock
from smtpproxy.wire.dots import stuff, stuff_chunks

_NEWLINE = re.compile(rb"\r\n|\r|\n")


class Splice(NamedTuple):
    """Octets ``start`` to ``end`` of a base give way to ``data``."""

    start: int
    end: int
    data: bytes


class Base:
    """The octets behind the empty line that splices count from: of the original, or of a body put in its place."""

    __slots__ = ("_body", "_header")

    def __init__(self, body: Body, header: HeaderBlock | None) -> None:
        self._body = body
        self._header = header

    @property
    def size(self) -> int:
        """Octets in content form, -1 while nobody knows."""
        size = self._body.size
        return size if size < 0 or self._header is None else size - len(self._header.raw)

    @property
    def empty(self) -> bool:
        """There is nothing behind the header; known of a message that is still coming, too."""
        return (self._header is not None and not self._header.separator) or self.size == 0

    def content(self) -> Iterator[bytes]:
        """Content form, from the first octet behind the header."""
        chunks = self._body.content()
        return chunks if self._header is None else behind(chunks, len(self._header.raw))

    def content_from(self, offset: int) -> Iterator[bytes]:
        """Content form, from that octet behind the header on."""
        return self._body.content_from(offset if self._header is None else offset + len(self._header.raw))

    def wire(self) -> Iterator[bytes]:
        """Wire form, the stored chunks as they are."""
        if self._header is None:
            return self._body.wire()
        if not self._header.separator:
            return iter(())
        if not self._body.dotted:
            return behind(self._body.wire(), len(self._header.raw))
        # Stuffing makes lines longer, and some clients forget it: only the number of lines is certain.
        return _behind_lines(self._body.wire(), self._header.raw.count(b"\n"))


class Rendering(Body):
    """A message with its edits: header octets (content form), then a base with splices.

    ``fields`` and ``body()`` are what a signer needs; ``top`` (our Received) is none of its business.
    """

    __slots__ = ("_base", "_header", "_splices", "_top", "fields")

    def __init__(
        self, fields: tuple[Field, ...], header: HeaderBlock, base: Base, splices: tuple[Splice, ...], top: bytes
    ) -> None:
        self.fields = fields
        self._header = header
        self._base = base
        self._splices = splices
        self._top = top
        self.dotted = True  # not looked for: it would cost a search, and true promises nothing

    @property
    def size(self) -> int:
        """See ``Body``."""
        size = self.body_size
        return size if size < 0 else len(self._head()) + size

    @property
    def body_size(self) -> int:
        """Octets behind the empty line, in content form; -1 while nobody knows."""
        return sum(map(len, self.body())) if self._splices else self._base.size

    def body(self) -> Iterator[bytes]:
        """What stands behind the empty line, in content form."""
        return spliced(self._base, self._splices) if self._splices else self._base.content()

    def content(self) -> Iterator[bytes]:
        """See ``Body``."""
        return _headed(self._head(), self.body())

    def wire(self) -> Iterator[bytes]:
        """See ``Body``."""
        head = stuff(self._head())
        if not self._header.separator:
            head += missing_line_end(head[-2:])
        if self._splices:
            return _headed(head, finished(stuff_chunks(self.body())))
        return _headed(head, self._base.wire())

    def _head(self) -> bytes:
        raws = [field.raw for field in self.fields]
        end = self._header.separator
        if not end:
            # The header ends with the data, perhaps amid a line: only what now stands behind that completes it.
            alone = self._base.empty and not self._splices
            end = raws.pop() if alone and raws else b"" if alone else b"\r\n"
            raws = [raw if raw.endswith(b"\n") else raw + b"\r\n" for raw in raws]
        return self._top + b"".join(raws) + end


class Spliced(Body):
    """A base with its splices as a base of its own: for splices whose offsets count from what was edited before."""

    __slots__ = ("_base", "_size", "_splices")

    def __init__(self, base: Base, splices: tuple[Splice, ...]) -> None:
        self._base = base
        self._splices = splices
        self._size = -1
        self.dotted = True

    @property
    def size(self) -> int:
        """See ``Body``."""
        if self._size < 0:
            self._size = sum(map(len, self.content()))
        return self._size

    def content(self) -> Iterator[bytes]:
        """See ``Body``."""
        return spliced(self._base, self._splices)

    def wire(self) -> Iterator[bytes]:
        """See ``Body``."""
        return finished(stuff_chunks(self.content()))


class Untouched(Body):
    """A message that nobody edited: the original, octet by octet, behind our lines."""

    __slots__ = ("_original", "_top")

    def __init__(self, original: Body, top: bytes) -> None:
        self._original = original
        self._top = top
        self.dotted = original.dotted

    @property
    def size(self) -> int:
        """See ``Body``."""
        size = self._original.size
        return size if size < 0 else size + len(self._top)

    def wire(self) -> Iterator[bytes]:
        """See ``Body``."""
        return _headed(self._top, self._original.wire())

    def content(self) -> Iterator[bytes]:
        """See ``Body``."""
        return _headed(self._top, self._original.content())


def with_crlf(data: bytes) -> bytes:
    """Line ends of text that a rule brings: a bare CR or LF never goes on the wire (RFC 5321 2.3.8)."""
    pairs = data.count(b"\r\n")
    return data if pairs == data.count(b"\r") == data.count(b"\n") else _NEWLINE.sub(b"\r\n", data)


def spliced(base: Base, splices: tuple[Splice, ...]) -> Iterator[bytes]:
    """The content of a base with its splices, which are in order of their place and do not overlap."""
    return _mended(_spans(_Reader(base.content()), splices))


def region(base: Base, splices: tuple[Splice, ...], start: int, end: int) -> Iterator[bytes]:
    """Octets ``start`` to ``end`` of a base, with what the splices between make of them.

    What is inserted at ``end`` itself stands behind the region.
    """
    reader = _Reader(base.content_from(start))
    inside = between(splices, start, end)
    while inside and inside[-1].start == end:
        inside.pop()
    if not inside:
        return reader.take(end - start)
    moved = tuple(Splice(each.start - start, each.end - start, each.data) for each in inside)
    return chain.from_iterable(_spans(_Reader(reader.take(end - start)), moved))


def between(splices: tuple[Splice, ...], start: int, end: int) -> list[Splice]:
    """The splices that lie within ``start`` and ``end``, inserts at both places among them."""
    first = bisect_left(splices, start, key=itemgetter(0))
    last = bisect_right(splices, end, first, key=itemgetter(0))
    return [each for each in splices[first:last] if each.end <= end]


def _spans(reader: _Reader, splices: tuple[Splice, ...]) -> Iterator[Iterable[bytes]]:
    at = 0
    for splice in splices:
        yield reader.take(splice.start - at)
        yield sliced(splice.data)
        for _ in reader.take(splice.end - splice.start):
            pass
        at = splice.end
    yield reader.take(-1)


def _mended(spans: Iterator[Iterable[bytes]]) -> Iterator[bytes]:
    """Where two spans meet, no half of a CRLF is left alone: a splice may have cut one in two."""
    last = b""
    for span in spans:
        seam = bool(last)
        for chunk in span:
            if seam and (last == b"\r") != chunk.startswith(b"\n"):
                yield b"\n" if last == b"\r" else b"\r"
            seam, last = False, chunk[-1:]
            yield chunk
    if last == b"\r":
        yield b"\n"


class _Reader:
    """Octets of a chunked stream, so many at a time."""

    __slots__ = ("_chunks", "_rest")

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def take(self, count: int) -> Iterator[bytes]:
        """The next ``count`` octets in chunks; all that are left when it is negative."""
        while count:
            chunk = self._rest or next(self._chunks, b"")
            if not chunk:
                return
            if 0 <= count < len(chunk):
                self._rest = chunk[count:]
                yield chunk[:count]
                return
            self._rest = b""
            count -= len(chunk) if count > 0 else 0
            yield chunk


def _headed(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The head before the chunks; a small message is one chunk, so it leaves in one piece."""
    first = next(chunks, b"")
    if len(head) + len(first) <= CHUNK:
        return chain((head + first,), chunks) if head or first else iter(())
    return chain(sliced(head), (first,), chunks)


def _behind_lines(chunks: Iterator[bytes], lines: int) -> Iterator[bytes]:
    for chunk in chunks:
        found = chunk.count(b"\n")
        if found < lines:
            lines -= found
            continue
        at = 0
        for _ in range(lines):
            at = chunk.index(b"\n", at) + 1
        return chain((chunk[at:],), chunks) if at < len(chunk) else chunks
    return chunks
