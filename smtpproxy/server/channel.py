"""What the master and its children tell each other: small msgpack maps over a pair of sockets that never block.

Neither end waits for the other: what does not fit into the socket is kept and follows with the next call. The master has
no hub, so nothing here knows of gevent; a child waits for its end to become readable in its own way.
"""

from __future__ import annotations

import _socket
from typing import Any

import msgpack

Message = dict[str, Any]

BLOCK = 1 << 16


class Channel:
    """One end. `closed`: the other one is gone."""

    __slots__ = ("_out", "_socket", "_unpacker", "closed")

    def __init__(self, sock: _socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._out = bytearray()
        self._unpacker = msgpack.Unpacker()
        self.closed = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, **message: Any) -> None:
        """Say something; to an end that is gone it is said in vain."""
        self._out += msgpack.packb(message)
        self.flush()

    def flush(self) -> bool:
        """Send what is kept; True while something is left."""
        while self._out and not self.closed:
            try:
                del self._out[: self._socket.send(self._out)]
            except BlockingIOError:
                return True
            except OSError:
                self.closed = True
        return False

    def receive(self) -> list[Message]:
        """What has come by now."""
        while not self.closed:
            try:
                data = self._socket.recv(BLOCK)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.closed = True
                break
            self._unpacker.feed(data)
        return list(self._unpacker)

    def close(self) -> None:
        self.closed = True
        self._socket.close()


def pair() -> tuple[Channel, Channel]:
    """Both ends, the master's and the child's."""
    ours, theirs = _socket.socketpair()
    return Channel(ours), Channel(theirs)
