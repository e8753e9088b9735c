"""The MIME structure of a body (RFC 2046): where each part begins and ends, found in one pass over the chunks.

    delimiter   the line end in front of "--boundary", which belongs to it
    start       the first octet of the part's header
    body        the first octet behind the empty line
    stop        the delimiter that ends the part, or the end of what holds it

Nothing is copied but the headers, nothing is decoded, nothing raises.  A multipart that never ends is ended by what
holds it; one without a boundary is no multipart; what stands before the first delimiter and behind the last one
(preamble, epilogue) belongs to no part.  Only a whole line is a delimiter, so one boundary may begin with another.
Of two equal boundaries the inner one counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from smtpproxy.message.header import HeaderBlock
from smtpproxy.message.mime import IDENTITY, MimeHeader
from smtpproxy.message.rendering import Base

MAX_DEPTH = 100
MAX_PARTS = 10_000
MAX_HEADER = 1 << 16
"""Octets of one part's header."""
MAX_HEADERS = 1 << 22
"""Octets of all of them: they are what a walk keeps in memory."""

_LONGEST = 1200
"""Octets of a line that may be a delimiter: a boundary has 70 at most, and some senders do not care."""
_NONE, _MORE = -1, -2
# Possessive quantifiers: no input makes the pattern go back.
_HEADER = re.compile(rb"(?:>?From [^\n]*+\n)?+(?:[!-9;-~]++[ \t]*+:[^\n]*+\n(?:[ \t][^\n]*+\n)*+)*+")
_MESSAGES = frozenset({"message/rfc822", "message/global"})


class Node:
    """One part of the original; offsets count from the first octet of the body."""

    __slots__ = ("_header", "body", "boundary", "children", "closed", "delimiter", "depth", "parent", "raw", "start", "stop")

    def __init__(self, parent: Node | None, delimiter: int, start: int) -> None:
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent else 0
        self.delimiter = delimiter
        self.start = start
        self.body = start
        self.stop = -1
        self.boundary = b""
        """Of a multipart that was taken apart."""
        self.closed = -1
        """Where the closing delimiter of a multipart begins; where it ends, if there is none."""
        self.children: list[Node] = []
        self.raw = b""
        """The header, with the empty line behind it; not of the message itself, whose header stands elsewhere."""
        self._header: MimeHeader | None = None

    @property
    def glued(self) -> bool:
        """Not even a line end stands between the delimiter before the part and the one behind it."""
        return 0 <= self.stop < self.start

    @property
    def place(self) -> tuple[int, int]:
        """What another part takes the place of: header and body; of a glued part the delimiter, too."""
        return (self.delimiter, self.stop) if self.glued else (self.start, self.stop)

    @property
    def lead(self) -> bytes:
        """What begins another part in this place."""
        if not self.glued or self.parent is None:
            return b""
        return (b"\r\n--" if self.delimiter > self.parent.body else b"--") + self.parent.boundary + b"\r\n"

    @property
    def header(self) -> MimeHeader:
        """The header, split when somebody asks."""
        if self._header is None:
            self._header = mime_header(self.raw, self.default)
        return self._header

    @property
    def default(self) -> str:
        """The content type of a part that names none (RFC 2046 5.1.5)."""
        digest = self.parent is not None and self.parent.header.content_type == "multipart/digest"
        return "message/rfc822" if digest else "text/plain"

    @property
    def container(self) -> bool:
        """The part may hold others; told from the octets, without splitting the header."""
        raw = self.raw.lower()
        return self.parent is None or b"multipart/" in raw or b"message/" in raw or self.default != "text/plain"

    @property
    def end(self) -> int:
        """The octet behind the last one of the body: an empty body has given its line end to the delimiter."""
        return max(self.body, self.stop)


class Tree:
    """The parts in the order in which they begin; the message itself is the first."""

    __slots__ = ("defects", "nodes", "root")

    def __init__(self, root: Node) -> None:
        self.root = root
        self.nodes = [root]
        self.defects: dict[str, None] = {}
        """depth, parts, header (a limit was met: what lies beyond is not taken apart), boundary (a multipart without
        one), unclosed (without a last delimiter)."""


def mime_header(raw: bytes, default: str = "text/plain") -> MimeHeader:
    """``raw``: a header with the empty line that ends it, if one does."""
    ending = next((ending for ending in (b"\r\n", b"\n") if raw == ending or raw.endswith(b"\n" + ending)), b"")
    return MimeHeader(HeaderBlock(raw, ending).fields, default)


def walk(base: Base, header: MimeHeader) -> Tree:
    """The structure of a message; the body is read only when the header says that there is one."""
    root = Node(None, 0, 0)
    root._header = header
    walker = _Walker(Tree(root), base.size)
    walker.opened(root)
    if not walker.done:
        walker.run(base.content())
    walker.close(None, base.size)
    return walker.tree


class _Walker:
    """Where a walk stands: the parts that are open, outermost first, and what a delimiter of theirs looks like."""

    __slots__ = ("_headers", "_in_header", "_lines", "_needles", "_open", "_resume", "_size", "tree")

    def __init__(self, tree: Tree, size: int) -> None:
        self.tree = tree
        self._size = size
        self._open: list[Node] = []
        self._lines: dict[bytes, list[Node]] = {}
        self._needles: list[bytes] = []
        self._in_header: Node | None = None
        self._resume = -1
        self._headers = 0

    @property
    def done(self) -> bool:
        """Nothing that comes could change anything."""
        return not self._needles and self._in_header is None

    def run(self, chunks: Iterator[bytes]) -> None:
        """Read until the end, or until nothing more is to be found."""
        rest, at = b"\n", -1  # the body begins with a line
        for chunk in chunks:
            rest += chunk
            kept = self._take(rest, at, False) - at
            rest, at = rest[kept:], at + kept
            if self.done:
                return
        self._take(rest, at, True)

    def _take(self, data: bytes, at: int, final: bool) -> int:
        """Look through what is there; the offset from which on it is wanted again.  ``at``: that of ``data[0]``."""
        while not self.done:
            limit = self._limit(data, at, final) if self._in_header else len(data)
            found = self._delimiter(data, at, limit, final) if limit >= 0 else _MORE
            if found == _NONE and self._in_header is not None:
                self._header_ends(data, at, limit)
            elif found < 0:
                wanted = self._resume if self._in_header is None else min(self._resume, self._in_header.start)
                return max(wanted - 1, at)
        return at

    def _limit(self, data: bytes, at: int, final: bool) -> int:
        """The index behind the header that we are in, -1 while it has not come."""
        assert self._in_header is not None
        start = self._in_header.start - at
        most = start + MAX_HEADER
        match = _HEADER.match(data, start, most)
        end = match.end() if match else start
        for empty in (b"\r\n", b"\n"):
            if data.startswith(empty, end):
                return end + len(empty)
        if data.find(b"\n", end, most) >= 0:
            return end  # a line that is no field: somebody forgot the empty line
        if len(data) > most:
            self.tree.defects["header"] = None
            return data.rfind(b"\n", start, most) + 1 or most
        return len(data) if final else -1

    def _header_ends(self, data: bytes, at: int, limit: int) -> None:
        node, self._in_header = self._in_header, None
        assert node is not None
        self._read_header(node, data[node.start - at : limit], at + limit)
        self._resume = max(at + limit - 1, self._resume)
        self.opened(node)

    def _read_header(self, node: Node, raw: bytes, body: int) -> None:
        node.body = body
        node.raw = raw
        self._headers += len(raw)

    def opened(self, node: Node) -> None:
        """The header of a part is in: what is it?"""
        if not node.container:
            return
        kind = node.header.content_type
        embedded = kind in _MESSAGES and node.header.encoding in IDENTITY
        boundary = node.header.boundary
        if kind.startswith("multipart/") and not boundary:
            self.tree.defects["boundary"] = None
        elif (boundary or embedded) and node.depth >= MAX_DEPTH:
            self.tree.defects["depth"] = None
        elif boundary:
            node.boundary = boundary
            self._open.append(node)
            line = b"\n--" + boundary
            self._needles.append(_common(self._needles[-1], line) if self._needles else line)
            for ending in (b"", b"--"):
                self._lines.setdefault(line[1:] + ending, []).append(node)
        elif embedded:
            self._open.append(node)
            self._begin(node, node.body, node.body)

    def _begin(self, parent: Node, delimiter: int, start: int) -> None:
        full = len(self.tree.nodes) >= MAX_PARTS
        if full or self._headers >= MAX_HEADERS:
            self.tree.defects["parts" if full else "header"] = None
            self._needles.clear()
            return
        node = Node(parent, max(delimiter, parent.body), start)
        parent.children.append(node)
        self.tree.nodes.append(node)
        self._in_header = node
        self._resume = start - 1

    def _delimiter(self, data: bytes, at: int, limit: int, final: bool) -> int:
        """Act on the next delimiter before ``limit``: its index, or ``_NONE`` or ``_MORE``."""
        if not self._needles:
            return _NONE
        needle, lines = self._needles[-1], self._lines
        place = self._resume - at
        while (found := data.find(needle, place, limit)) >= 0:
            end = data.find(b"\n", found + 1, found + _LONGEST)
            if end < 0:
                if len(data) - found < _LONGEST and not final:
                    self._resume = at + found
                    return _MORE
                end = min(len(data), found + _LONGEST)
            line = data[found + 1 : end].rstrip(b" \t\r")
            if owners := lines.get(line):
                self._met(owners[-1], line, data, at, found, end)
                return found
            place = end
        # Half a needle may stand at the end.
        self._resume = at + max(place, min(limit - 1, len(data) - len(needle) + 1))
        return _NONE

    def _met(self, owner: Node, line: bytes, data: bytes, at: int, found: int, end: int) -> None:
        place = at + found - (1 if data[found - 1 : found] == b"\r" and found else 0)
        if self._in_header is not None:
            node, self._in_header = self._in_header, None
            self._read_header(node, data[max(node.start - at, 0) : found + 1], max(at + found + 1, node.start))
        self.close(owner, max(place, 0))
        self._resume = at + end
        if line == b"--" + owner.boundary:
            self._begin(owner, max(place, 0), at + min(end + 1, len(data)))
        else:
            owner.closed = max(place, 0)
            self._forget(owner)

    def close(self, owner: Node | None, place: int) -> None:
        """A delimiter of this multipart, or the end, ends what is open inside it."""
        if self._in_header is not None:
            self._read_header(self._in_header, b"", self._in_header.start)
            self._in_header = None
        while self._open and self._open[-1] is not owner:
            node = self._open.pop()
            self._end_last(node, place)
            if node.boundary and node.closed < 0:
                self._forget(node)
                self.tree.defects["unclosed"] = None
                node.closed = place
        if owner is None:
            self.tree.root.stop = place
        else:
            self._end_last(owner, place)

    def _end_last(self, node: Node, place: int) -> None:
        if not node.children or node.children[-1].stop >= 0:
            return
        last = node.children[-1]
        if place < last.start and not node.boundary and not last.children:
            node.children.pop()  # of an attached message there is not one octet
            self.tree.nodes.remove(last)
        else:
            last.stop = place

    def _forget(self, node: Node) -> None:
        for ending in (b"", b"--"):
            line = b"--" + node.boundary + ending
            owners = self._lines[line]
            owners.remove(node)
            if not owners:
                del self._lines[line]
        if self._needles:
            self._needles.pop()


def _common(left: bytes, right: bytes) -> bytes:
    """What both begin with."""
    length = min(len(left), len(right))
    return left[: next((at for at in range(length) if left[at] != right[at]), length)]
