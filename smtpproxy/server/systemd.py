"""What systemd is told (sd_notify(3)): a datagram, and silence where nobody listens."""

from __future__ import annotations

import _socket
import os
from contextlib import suppress


def notify(*lines: str) -> None:
    """Say READY=1, RELOADING=1, STOPPING=1, MAINPID=..., STATUS=... to whoever has started us and wants to know."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")):
        return
    with suppress(OSError):
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        try:
            sock.connect("\0" + place[1:] if place[0] == "@" else place)
            sock.send("\n".join(lines).encode())
        finally:
            sock.close()
