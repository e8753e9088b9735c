"""BDAT (RFC 3030): the message in chunks of announced sizes, each a command with an answer of its own.

Whoever takes the message pulls it, as any other. Where a chunk ends, the pull answers it and waits for the next command:
what the client says between two chunks goes through the loop as ever. Announced octets are always read, whatever is wrong
with the command that announced them: they must never be taken for commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smtpproxy.message.header import end_of_header
from smtpproxy.net.connection import Connection
from smtpproxy.session import each
from smtpproxy.session.data import receive
from smtpproxy.session.intake import BARE, DRAIN_LIMIT, TOO_BIG, Intake, Interrupted
from smtpproxy.session.room import NO_ROOM
from smtpproxy.session.verdicts import ask
from smtpproxy.wire.command import Chunk, Command, parse_bdat
from smtpproxy.wire.dots import ChunkScanner, bare_newline
from smtpproxy.wire.order import State
from smtpproxy.wire.reply import Refusal, Reply

if TYPE_CHECKING:
    from smtpproxy.session.session import Session

NOT_OFFERED = Reply(502, "5.5.1", "CHUNKING is not offered here")


class Chunks(Intake):
    """A message on its way in by BDAT. ``announce`` and ``command`` are for the handlers of what is said between chunks."""

    __slots__ = ("_announced", "_answer", "_left", "_session", "_size", "_total", "command", "last")

    stuffed = False
    _scanner: ChunkScanner

    def __init__(self, session: Session, chunk: Chunk, binary: bool) -> None:
        limits = session.services.limits
        super().__init__(session.connection, limits, ChunkScanner(session.entrance.normalize, binary), session.end)
        self._session = session
        self._total = 0
        self.command: Command | None = None
        """A command that ends the transaction."""
        self.announce(chunk)

    def announce(self, chunk: Chunk, refused: Reply | None = None) -> None:
        """The next chunk, and the answer if it is not wanted."""
        self._size, self.last = chunk
        self._left = self._size
        self._total += self._size
        limit = self._limits.message_size
        self._answer = TOO_BIG if refused is None and 0 < limit < self._total else refused
        self._announced = True

    def read_head(self) -> None:
        """See ``Intake``; a header is text, whatever the message is."""
        super().read_head()
        if self._scanner.binary and (bare := bare_newline(self.head[: max(end_of_header(self.head), 0)])):
            raise Refusal(BARE[bare], f"bare {bare} in the header")

    def drain(self) -> bool:
        """See ``Intake``: the rest of the chunk."""
        return skip(self._connection, self._left)

    def _take(self) -> bytes:
        if not self._left and not self.last:
            self._next_chunk()
        if self._answer is not None:
            raise Refusal(self._answer, f"BDAT {self._size}")
        data = b""
        if self._left:
            data = self._pace.take()
            if len(data) > self._left:
                self._connection.lines.push(data[self._left :])
                data = data[: self._left]
            self._left -= len(data)
        ended = self.last and not self._left
        if ended:
            self._pace.pause()
        return self._scanner.feed(data, ended)

    def _next_chunk(self) -> None:
        """Answer this chunk, and do what the client says until it announces another."""
        session = self._session
        session.answer(Reply(250, "2.0.0", f"{self._size} octets received"))
        self._pace.pause()
        self._announced = False
        while not self._announced:
            if session.closing:
                raise Interrupted(None)
            session.turn()
            if self.command is not None:
                raise Interrupted(self.command)
        self._pace.resume()

    def _check_lines(self, content: bytes) -> None:
        if not self._scanner.binary:
            super()._check_lines(content)


def bdat(session: Session, command: Command) -> Reply | None:
    try:
        chunk = parse_bdat(command.octets)
    except Refusal as refusal:
        return refuse(session, command, refusal.reply)
    if not (chunk.size or chunk.last) and (idle := session.idle()) is not None:
        return refuse(session, command, idle)
    if session.chunks is not None:
        session.chunks.announce(chunk)
        return None
    transaction = session.transaction
    assert session.offer is not None and transaction is not None
    if "CHUNKING" not in session.offer.extensions:
        return refuse(session, command, NOT_OFFERED)
    each.expect(transaction)
    chain = session.chains.on_data
    if chain and (refused := ask(session, chain, transaction.mail)) is not None:
        return refuse(session, command, refused)
    if lacking := session.services.room.lacks(transaction.mail.size_declared or 0):
        return refuse(session, command, session.refused(NO_ROOM, lacking))
    session.watch("watch_data", transaction.mail)
    session.state = State.CHUNKS
    intake = session.chunks = Chunks(session, chunk, transaction.mail.binary)
    try:
        reply = receive(session, transaction, intake)
    except Interrupted as interrupted:
        session.chunks = None
        session.end_transaction()
        return None if interrupted.command is None else session.execute(interrupted.command)
    session.chunks = None
    if not intake.last:
        session.state = State.FAILED
    return reply


def refuse(session: Session, command: Command, reply: Reply) -> Reply | None:
    """BDAT is refused for what it says or when it is said: its octets are read, and the mail it belongs to has failed.

    Where it does not say how many they are, they cannot be told from commands: the session is over (as in Postfix).
    """
    try:
        chunk = parse_bdat(command.octets)
    except Refusal:
        chunk = Chunk(0, False)
        session.closing = True
    if session.chunks is not None:
        session.chunks.announce(chunk, reply)
        return None
    begun, transaction = session.state > State.GREETED, session.transaction
    if not skip(session.connection, chunk.size):
        session.closing = True
    session.end_transaction()
    if begun and not chunk.last:
        session.state = State.FAILED
    return each.answered(session, transaction, reply) if transaction is not None and chunk.last else reply


def skip(connection: Connection, count: int) -> bool:
    """Read so many octets and forget them; False when they are too many."""
    if count > DRAIN_LIMIT:
        return False
    while count:
        data = connection.take()
        if len(data) > count:
            connection.lines.push(data[count:])
        count -= min(len(data), count)
    return True
