"""The message as it comes from the client: found its end, counted, checked, pulled by whoever wants it.

Whatever is wrong with it is raised as a ``Refusal`` in the middle of a pull; ``drain`` then reads on to the end of the
message, so that the refusal can be said and the session goes on.
"""

from __future__ import annotations

from collections.abc import Iterator

from smtpproxy.config.limits import Limits
from smtpproxy.message.body import Body, BodyWriter, StoredBody, finished
from smtpproxy.message.budget import Budget
from smtpproxy.message.header import HeaderBlock, end_of_header, extent
from smtpproxy.message.trace import count_received
from smtpproxy.net.connection import NEVER, Connection, ConnectionLost
from smtpproxy.session.pace import Pace
from smtpproxy.wire.command import Command
from smtpproxy.wire.dots import ChunkScanner, DataScanner, stuff_chunks, unstuff, unstuff_chunks
from smtpproxy.wire.reply import Refusal, Reply

TOO_BIG = Reply(552, "5.3.4", "The message is larger than is taken here")
BARE = {
    "CR": Reply(550, "5.6.11", "The message has a CR without an LF; lines end in CR LF"),
    "LF": Reply(550, "5.6.11", "The message has an LF without a CR; lines end in CR LF"),
}
HEADER_TOO_BIG = Reply(554, "5.6.0", "The header of the message is larger than is taken here")
TOO_MANY_FIELDS = Reply(554, "5.6.0", "The header of the message has more fields than are taken here")
FIELD_TOO_BIG = Reply(554, "5.6.0", "The header of the message has a field larger than is taken here")
LINE_TOO_LONG = Reply(554, "5.6.0", "The message has a line longer than is taken here")
LOOP = Reply(554, "5.4.6", "Too many hops: the message has been here too often")

DRAIN_LIMIT = 64 << 20
"""Octets read behind a refusal in the hope of the end of the message; past that we hang up."""


class Interrupted(Exception):
    """The client gave up the message amid, by ``command``; None: it is hung up on."""

    def __init__(self, command: Command | None) -> None:
        super().__init__()
        self.command = command


class Intake:
    """A message on its way in. ``head`` first, then ``rest``; or ``drain`` at any time."""

    __slots__ = ("_connection", "_limits", "_line", "_pace", "_scanner", "head")

    stuffed = True
    """It comes in wire form."""
    last = True
    """The message ends with what is on its way now."""

    def __init__(self, connection: Connection, limits: Limits, scanner: DataScanner | ChunkScanner, end: float) -> None:
        self._connection = connection
        self._pace = Pace(connection, limits, end)
        self._limits = limits
        self._scanner = scanner
        self._line = 0
        self.head = b""
        """What was read while looking for the end of the header: the whole header and what came with it, as it came."""

    def _take(self) -> bytes:
        """The octets that are certain, of what comes next; they may be none."""
        raise NotImplementedError

    def drain(self) -> bool:
        """Read on to where commands begin again, and forget it; False when that is too far."""
        raise NotImplementedError

    @property
    def ended(self) -> bool:
        return self._scanner.ended

    @property
    def size(self) -> int:
        """Octets of content so far."""
        return self._scanner.content_size

    @property
    def dotted(self) -> bool:
        return self._scanner.dots > 0

    def read_head(self) -> None:
        """Read until the header is complete; raises ``Refusal`` for one too large, or with too many hops."""
        limit = self._limits.header_size
        head = self._next()
        end = end_of_header(head)
        if end < 0 and not self._scanner.ended:
            head, end = self._gather(head)
        self.head = head
        header = head[:end] if end >= 0 else head
        if 0 < limit < len(header):
            raise Refusal(HEADER_TOO_BIG, f"header of {len(header)} octets")
        self._check_fields(header)
        hops = self._limits.received
        if hops and count_received(header) > hops:
            raise Refusal(LOOP, f"more than {hops} Received fields")

    def _check_fields(self, header: bytes) -> None:
        """Each field and all of them; only a header that may be too much is taken apart."""
        most, largest = self._limits.header_fields, self._limits.header_field_size
        if not (0 < most < header.count(b"\n") or 0 < largest < len(header)):
            return
        count, size = extent(header)
        if 0 < most < count:
            raise Refusal(TOO_MANY_FIELDS, f"{count} fields in the header")
        if 0 < largest < size:
            raise Refusal(FIELD_TOO_BIG, f"a header field of {size} octets")

    def header(self) -> HeaderBlock:
        """The header, once ``read_head`` has it."""
        end = end_of_header(self.head)
        header = self.head[:end] if end >= 0 else self.head
        return HeaderBlock.parse(unstuff(header) if self.stuffed else header)

    def _gather(self, head: bytes) -> tuple[bytes, int]:
        """A header that comes in pieces, and its end; each octet is looked at once, however small the pieces are."""
        limit, gathered, end = self._limits.header_size, bytearray(head), -1
        while end < 0 and not self._scanner.ended:
            if 0 < limit < len(gathered):
                raise Refusal(HEADER_TOO_BIG, f"header of more than {limit} octets")
            searched = max(len(gathered) - 3, 0)
            gathered += self._next()
            found = gathered.find(b"\n\r\n", searched)
            end = 2 if gathered.startswith(b"\r\n") else found + 3 if found >= 0 else -1
        return bytes(gathered), end

    def rest(self) -> Iterator[bytes]:
        """The chunks behind ``head``, as they come."""
        while not self._scanner.ended:
            chunk = self._next()
            if chunk:
                yield chunk

    def _next(self) -> bytes:
        scanner, limits = self._scanner, self._limits
        content = self._take()
        if scanner.bare and not scanner.normalize:
            raise Refusal(BARE[scanner.bare], f"bare {scanner.bare} in the message")
        if 0 < limits.message_size < scanner.size and limits.message_size < scanner.content_size:
            raise Refusal(TOO_BIG, f"more than {limits.message_size} octets")
        if limits.text_line_length > 0 and not (scanner.ended and self._line + len(content) <= limits.text_line_length):
            self._check_lines(content)
        return content

    def _check_lines(self, content: bytes) -> None:
        """A line longer than a chunk shows at the chunks' ends; only for a small limit each line is looked at."""
        limit = self._limits.text_line_length
        first = content.find(b"\n")
        self._line += len(content) if first < 0 else first
        with_cr = limit + 1
        if self._line > with_cr or (with_cr < len(content) and len(max(content.split(b"\n"), key=len)) > with_cr):
            raise Refusal(LINE_TOO_LONG, f"line of more than {limit} octets")
        if first >= 0:
            self._line = len(content) - content.rfind(b"\n") - 1


class Dotted(Intake):
    """One DATA phase: the message ends at CRLF.CRLF (RFC 5321 4.1.1.4)."""

    __slots__ = ()

    _scanner: DataScanner

    def __init__(self, connection: Connection, limits: Limits, normalize: bool, end: float = NEVER) -> None:
        super().__init__(connection, limits, DataScanner(normalize), end)

    def _take(self) -> bytes:
        content, rest = self._scanner.feed(self._pace.take())
        if self._scanner.ended:
            self._pace.pause()
            if rest:
                self._connection.lines.push(rest)
        return content

    def drain(self) -> bool:
        scanner = self._scanner
        limit = scanner.size + DRAIN_LIMIT
        while not scanner.ended and scanner.size < limit:
            self._take()
        return scanner.ended


class Arriving(Body):
    """The message while it comes: pulled straight from the client, once; or stored first, and then read at will."""

    __slots__ = ("_connection", "_intake", "_stored")

    def __init__(self, intake: Intake, connection: Connection) -> None:
        self.dotted = True  # nobody can know before the end
        self._intake = intake
        self._connection = connection
        self._stored: StoredBody | None = None

    @property
    def size(self) -> int:
        return self._stored.size if self._stored is not None else -1

    def store(self, memory: int, folder: str | None, budget: Budget) -> None:
        """Read to the end, into memory or a file; raises ``Refusal``, OSError when the disk is full. Once is enough."""
        if self._stored is not None:
            return
        intake = self._intake
        writer = BodyWriter(memory, folder, budget)
        try:
            writer.write(intake.head)
            for chunk in intake.rest():
                writer.write(chunk)
            self._stored = writer.finish(intake.dotted, stuffed=intake.stuffed, size=intake.size)
        finally:
            writer.close()
        self.dotted = intake.dotted

    def wire(self) -> Iterator[bytes]:
        if self._stored is not None:
            return self._stored.wire()
        return self._streamed() if self._intake.stuffed else finished(stuff_chunks(self._streamed()))

    def content(self) -> Iterator[bytes]:
        if self._stored is not None:
            return self._stored.content()
        return unstuff_chunks(self._streamed()) if self._intake.stuffed else self._streamed()

    def _streamed(self) -> Iterator[bytes]:
        yield self._intake.head
        yield from self._intake.rest()
        if self._connection.gone():
            raise ConnectionLost("the client left before the message was committed")
