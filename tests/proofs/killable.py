"""An upstream in a process of its own, to be killed: `killable.py PORT FILE`.

It takes a message by writing "taken RECIPIENT" to the file, and only then says 250; then it writes "answered RECIPIENT".
A recipient stands for a message. What was written stays when the process is killed, and what was sent arrives.
"""

from __future__ import annotations

import os
import random
import sys
from typing import Any

from gevent import monkey

monkey.patch_all()

import gevent  # noqa: E402
from gevent.event import Event  # noqa: E402

from smtpproxy.testing.conversation import Conversation  # noqa: E402
from smtpproxy.testing.upstream import FakeUpstream  # noqa: E402

SYNC = 0.01
"""Seconds that a disk may take between the two: when it matters most not to be killed."""


class Ledger(list[Any]):
    """The messages of a conversation: appended to once the answer is sent."""

    def __init__(self, upstream: KillableUpstream) -> None:
        super().__init__()
        self._upstream = upstream

    def append(self, message: Any) -> None:
        self._upstream.note("answered", message.recipients[0])


class KillableUpstream(FakeUpstream):
    """Keeps a ledger on disk."""

    def __init__(self, port: int, ledger: int) -> None:
        self._ledger = ledger
        super().__init__(port=port)

    def note(self, what: str, recipient: str) -> None:
        """One write for a line: it is there, or it is not."""
        os.write(self._ledger, f"{what} {recipient}\n".encode())

    def act(self, stage: str, argument: str) -> Any:
        """Called at each stage in front of its reply."""
        if stage == "dot":
            self.note("taken", argument)
            gevent.sleep(random.uniform(0, SYNC))
        return None

    def _serve(self, channel: Any, peer: Any) -> None:
        conversation = Conversation(self, channel)
        conversation.messages = Ledger(self)
        conversation.run()


if __name__ == "__main__":
    KillableUpstream(int(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    Event().wait()
