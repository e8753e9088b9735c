"""A client that says exactly what it is told to, byte for byte."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from gevent import socket


class Reply(str):
    """A whole reply as the server sent it, its lines joined by LF, without the final CRLF."""

    __slots__ = ()

    @property
    def code(self) -> int:
        """The reply code, 250."""
        return int(self[:3])

    @property
    def enhanced(self) -> str:
        """The enhanced status code of the last line, "2.1.0"; "" when there is none (RFC 2034)."""
        word = self.rsplit("\n", 1)[-1][4:].split(" ", 1)[0]
        parts = word.split(".")
        return word if len(parts) == 3 and all(part.isdigit() for part in parts) else ""

    @property
    def texts(self) -> list[str]:
        """What each line says after its code."""
        return [line[4:] for line in self.split("\n")]


class FakeClient:
    """A connection to a server on the loopback. Any wait is over after `timeout` seconds (TimeoutError).

    A connection that the server closed raises ConnectionError where a reply was expected.
    """

    def __init__(self, port: int, *, host: str = "127.0.0.1", source: str = "", timeout: float = 10.0) -> None:
        origin = (source, 0) if source else None
        self.socket = socket.create_connection((host, port), timeout=timeout, source_address=origin)
        self._buffer = b""

    @classmethod
    def over(cls, sock: socket.socket) -> Self:
        """A client at the other end of a connection that is there already."""
        client = cls.__new__(cls)
        client.socket = sock
        client._buffer = b""
        return client

    @classmethod
    def greeted(cls, port: int, hello: str = "EHLO client.example", source: str = "") -> Self:
        """Connect, read the greeting and say hello."""
        client = cls(port, source=source)
        client.expect("220")
        client.send(hello)
        return client

    def expect(self, beginning: str) -> Reply:
        """Read a reply that begins like this. Raises AssertionError when it does not."""
        reply = self.reply()
        if not reply.startswith(beginning):
            raise AssertionError(f"expected {beginning!r}, got {reply!r}")
        return reply

    def send(self, line: str | bytes) -> Reply:
        """Send a command line (CRLF is added) and read its reply."""
        self.raw(_octets(line) + b"\r\n")
        return self.reply()

    def pipeline(self, lines: Sequence[str | bytes]) -> list[Reply]:
        """Send command lines in one write and read as many replies (RFC 2920)."""
        self.raw(b"".join(_octets(line) + b"\r\n" for line in lines))
        return [self.reply() for _ in lines]

    def data(self, wire: bytes) -> Reply:
        """Send these very bytes and read one reply."""
        self.raw(wire)
        return self.reply()

    def message(self, content: bytes) -> Reply:
        """DATA, the content dot-stuffed with its final dot, and the reply to it; or DATA's refusal."""
        reply = self.send("DATA")
        if reply.code != 354:
            return reply
        if content and not content.endswith(b"\r\n"):
            content += b"\r\n"
        return self.data((b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")

    def raw(self, data: bytes) -> None:
        """Send bytes and read nothing."""
        self.socket.sendall(data)

    def reply(self) -> Reply:
        """Read one whole reply."""
        lines = []
        while True:
            line = self.line()
            lines.append(line)
            if line[3:4] != "-":
                return Reply("\n".join(lines))

    def line(self) -> str:
        """Read one line, without its CRLF."""
        while b"\r\n" not in self._buffer:
            chunk = self.socket.recv(65536)
            if not chunk:
                raise ConnectionError(f"the server hung up after {self._buffer!r}")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode("utf-8", "surrogateescape")

    def closed(self) -> bool:
        """Wait for the server's next move: true when it hung up, false when it said something."""
        if self._buffer:
            return False
        try:
            self._buffer = self.socket.recv(65536)
        except ConnectionError:
            return True
        return not self._buffer

    def quiet(self, wait: float = 0.1) -> bool:
        """Whether nothing has come that was not read, and nothing comes within `wait` seconds."""
        self.socket.settimeout(wait)
        try:
            self._buffer += self.socket.recv(65536)
        except TimeoutError:
            pass
        finally:
            self.socket.settimeout(10.0)
        return not self._buffer

    def half_close(self) -> None:
        """End our direction (FIN) and go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def start_tls(self, context: ssl.SSLContext, name: str | None = None, session: ssl.SSLSession | None = None) -> None:
        """Shake hands, asking for a name (SNI). Raises ssl.SSLError."""
        self._buffer = b""
        self.socket = context.wrap_socket(self.socket, server_hostname=name, session=session)

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _octets(line: str | bytes) -> bytes:
    return line.encode("utf-8", "surrogateescape") if isinstance(line, str) else line
