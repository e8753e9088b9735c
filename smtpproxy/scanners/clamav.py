"""ClamAV: the client of clamd(8), by its INSTREAM command over a unix socket or TCP.

    zINSTREAM NUL  (length, 4 octets, network order; that many octets) ...  0000  ->  stream: OK NUL
                                                                               stream: NAME FOUND NUL
                                                                               WORDS ERROR NUL

A connection serves one command: clamd's sessions would save a local connect, some tens of microseconds beside a scan
of milliseconds, and have the fate of one message hang on what another one did to the connection.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from smtpproxy.config.values import ScannerTarget
from smtpproxy.facts.scan import Scan, ScanError
from smtpproxy.net.connection import Connection, ConnectionLost
from smtpproxy.scanners.servers import ServerFailed, Servers

ANSWER_LIMIT: Final = 4096
"""Octets of an answer; clamd's have less than 300."""

_LENGTH: Final = struct.Struct("!I")
_END: Final = _LENGTH.pack(0)
_TOLD: Final = 200
_TOO_LARGE: Final = "INSTREAM size limit exceeded"


class Timeouts(NamedTuple):
    """Seconds: to connect, to take each chunk, to answer once everything is there. 0 is no limit."""

    connect: float = 2.0
    block: float = 10.0
    answer: float = 60.0


TIMEOUTS: Final = Timeouts()


class ClamAV:
    """Servers of one kind. `size` is the number of octets that they are given, 0 for no limit of ours.

    `refuse_large`: what is larger than that, or than a server takes, is a ScanError; else a Scan that says so.
    """

    __slots__ = ("_refuse_large", "_servers", "_size", "_timeouts")

    def __init__(
        self,
        targets: Iterable[ScannerTarget],
        timeouts: Timeouts = TIMEOUTS,
        *,
        size: int = 0,
        refuse_large: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = Servers(tuple(targets), timeouts.connect, clock)
        self._timeouts = timeouts
        self._size = size
        self._refuse_large = refuse_large

    def scan(self, content: Callable[[], Iterable[bytes]], size: int) -> Scan:
        """Have `size` octets scanned; `content` begins anew for each server. Raises ScanError."""
        if 0 < self._size < size:
            return self._too_large(f"[scanner.clamav] size is {self._size} octets")

        def question(connection: Connection, server: str) -> Scan:
            return self._instream(connection, content(), server)

        scan = self._servers.ask(question)
        return self._too_large(f"{scan.server} takes less (StreamMaxLength of clamd.conf)") if scan.too_large else scan

    def ping(self) -> bool:
        """Whether a server answers."""
        try:
            return self._servers.ask(lambda connection, _: self._command(connection, b"PING")) == "PONG"
        except ScanError:
            return False

    def version(self) -> str:
        """What the first server that answers says of itself and of its signatures. Raises ScanError."""
        return self._servers.ask(lambda connection, _: self._command(connection, b"VERSION"))

    def _too_large(self, why: str) -> Scan:
        if self._refuse_large:
            raise ScanError(f"it is too large to be scanned: {why}")
        return Scan(too_large=True)

    def _command(self, connection: Connection, name: bytes) -> str:
        connection.timeout = self._timeouts.answer
        connection.write(b"z" + name + b"\0")
        return _answer(connection)

    def _instream(self, connection: Connection, chunks: Iterable[bytes], server: str) -> Scan:
        connection.timeout = self._timeouts.block
        connection.write(b"zINSTREAM\0")
        try:
            whole = _send(connection, chunks)
        except ConnectionLost:
            whole = False  # its last words may say why
        connection.timeout = self._timeouts.answer
        return _result(_answer(connection), server, whole)


def _send(connection: Connection, chunks: Iterable[bytes]) -> bool:
    """All of it, and its end; False when clamd answers before that: it has had enough."""
    for chunk in chunks:
        if chunk:  # an empty one would be the end
            connection.write(_LENGTH.pack(len(chunk)))
            connection.write(chunk)
            connection.flush()
            if not connection.quiet():
                return False
    connection.write(_END)
    connection.flush()
    return True


def _answer(connection: Connection) -> str:
    """One answer, up to its NUL. Raises ServerFailed for what is none."""
    answer = b""
    while not answer.endswith(b"\0"):
        answer += connection.receive()
        if len(answer) > ANSWER_LIMIT:
            raise ServerFailed(f"an answer of more than {ANSWER_LIMIT} octets")
    text = answer[:-1].decode("utf-8", "replace")
    if not text.isprintable():
        raise ServerFailed(f"an answer that is none: {text[:_TOLD]!r}")
    return text


def _result(answer: str, server: str, whole: bool) -> Scan:
    """The answer to INSTREAM. Raises ServerFailed for an error, for "OK" to a part of it, and for any other words."""
    if answer.startswith(_TOO_LARGE):
        return Scan(too_large=True, server=server)
    found = answer.removeprefix("stream: ")
    name = found.removesuffix(" FOUND")
    if answer.startswith("stream: ") and name and name != found:
        return Scan(name, server=server)
    if answer == "stream: OK" and whole:
        return Scan(server=server)
    raise ServerFailed(answer[:_TOLD] or "an empty answer")
