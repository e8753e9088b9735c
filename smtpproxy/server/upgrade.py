"""The program executed anew beside the running one, with its sockets: nobody is refused while the two change places."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Final

from gevent.monkey import get_original

from smtpproxy.server.sockets import HANDED_OVER, Sockets, hand_over

READY: Final = "SMTPPROXY_READY"
"""Names the descriptor to which the new master writes when it serves."""


class Upgrade:
    """`descriptor` becomes readable when there is an outcome."""

    __slots__ = ("descriptor", "pid")

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self.descriptor = descriptor

    @classmethod
    def start(cls, sockets: Sockets) -> Upgrade:
        """Fork and execute the command line that started us."""
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        environment = {**os.environ, READY: str(writing), HANDED_OVER: hand_over(sockets)}
        environment = {name: value for name, value in environment.items() if not name.startswith("LISTEN_")}
        pid = get_original("os", "fork")()
        if pid == 0:
            try:
                os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
            finally:
                os._exit(127)
        os.close(writing)
        for sock in sockets.values():
            os.set_inheritable(sock.fileno(), False)
        return cls(pid, reading)

    def outcome(self) -> bool | None:
        """True when the new master serves, False when it is gone, None while it starts."""
        os.set_blocking(self.descriptor, False)
        try:
            said = os.read(self.descriptor, 16)
        except BlockingIOError:
            return None
        os.close(self.descriptor)
        if not said:
            get_original("os", "waitpid")(self.pid, 0)
        return bool(said)

    @staticmethod
    def report_ready(environment: Mapping[str, str]) -> None:
        """Tell the master before this one, if there is one that waits; once."""
        descriptor = os.environ.pop(READY, "")
        os.environ.pop(HANDED_OVER, None)
        if descriptor:
            os.write(int(descriptor), b"ready")
            os.close(int(descriptor))
