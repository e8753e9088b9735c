"""What a fake upstream does at a stage.

An *act* is a reply ("550 5.1.1 No such user"; LF between the lines of a longer one), bytes to send as they are, HANG
(say nothing more, read on), DROP (hang up), or `Hold`, which waits for an event first. The stages are the verbs (EHLO,
MAIL, RCPT, DATA, XCLIENT, ...), "greeting" on connect, "body" when the first octets of a message are in, "dot" at the
end of data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gevent.event import Event

HANG = object()
DROP = object()



class Hold:
    """Wait until `release()`, then act; `reached` is set when a conversation waits here."""

    def __init__(self, act: Any = None) -> None:
        self.act = act
        self.reached = Event()
        self._released = Event()

    def release(self) -> None:
        """Let every conversation that waits here go on."""
        self._released.set()

    def wait(self) -> None:
        """Used by the conversation."""
        self.reached.set()
        self._released.wait()


class Order:
    """What to do at a stage: for every argument or those that hold `argument`; several acts are used up in order."""

    __slots__ = ("acts", "argument", "stage")

    def __init__(self, stage: str, argument: str, acts: Sequence[Any]) -> None:
        self.stage = stage.upper()
        self.argument = argument.lower()
        self.acts = list(acts)

    def fits(self, stage: str, argument: str) -> bool:
        """Whether this order is about what just came."""
        return self.stage == stage.upper() and self.argument in argument.lower()

    def next(self) -> Any:
        """The act for this time; the last one is for all times after."""
        return self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
