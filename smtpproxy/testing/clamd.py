"""A clamd that finds what it is told to, and misbehaves when it is told to."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import gevent
from gevent.server import StreamServer

from smtpproxy.config.values import ScannerTarget


class FakeClamd:
    """Speaks clamd's INSTREAM, PING and VERSION on the loopback, or on the unix socket at `path`; a context manager.

    `viruses` are octets with their names; a stream of more than `limit` octets is answered and hung up on at once.
    `answers` are given instead, each in pieces: b"" hangs up, None waits until the client has left. They come at the
    end of the stream, or when `early` so many octets are in. `streams` holds what was sent, whole streams only.
    """

    def __init__(
        self,
        viruses: Mapping[bytes, str] | None = None,
        *,
        limit: int = 0,
        answers: Sequence[bytes | None] = (),
        early: int = 0,
        path: Path | None = None,
    ) -> None:
        self.viruses = viruses or {}
        self.limit = limit
        self.answers = answers
        self.early = early
        self.commands: list[bytes] = []
        self.streams: list[bytes] = []
        self._path = path
        self._server = StreamServer(_listening(path), self._serve)
        self._server.start()

    @property
    def target(self) -> ScannerTarget:
        """Where it listens."""
        return ScannerTarget("", 0, str(self._path)) if self._path else ScannerTarget("127.0.0.1", int(self._server.address[1]))

    def close(self) -> None:
        self._server.stop(timeout=0)

    def _serve(self, sock: Any, peer: object) -> None:
        with sock, sock.makefile("rb") as stream:
            command = b""
            while not command.endswith(b"\0") and (octet := stream.read(1)):
                command += octet
            self.commands.append(command.rstrip(b"\0"))
            self._answer(sock, self._answers(stream, command))

    def _answers(self, stream: Any, command: bytes) -> Sequence[bytes | None]:
        if command == b"zPING\0":
            return self.answers or [b"PONG\0"]
        if command == b"zVERSION\0":
            return self.answers or [b"ClamAV 1.4.3/27000/Mon Jan  1 00:00:00 2026\0"]
        if command != b"zINSTREAM\0":
            return [b"UNKNOWN COMMAND\0"]
        content = b""
        while size := struct.unpack("!I", stream.read(4).ljust(4, b"\0"))[0]:
            content += stream.read(size)
            if 0 < self.limit < len(content):
                return [b"INSTREAM size limit exceeded. ERROR\0"]
            if 0 < self.early <= len(content):
                return self.answers
        self.streams.append(content)
        found = next((name for octets, name in self.viruses.items() if octets in content), "")
        return self.answers or [f"stream: {found} FOUND\0".encode() if found else b"stream: OK\0"]

    def _answer(self, sock: Any, pieces: Sequence[bytes | None]) -> None:
        for piece in pieces:
            if piece is None:
                while sock.recv(65536):
                    pass
            else:
                sock.sendall(piece)
                gevent.sleep(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _listening(path: Path | None) -> Any:
    if path is None:
        return ("127.0.0.1", 0)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(16)
    return listener
