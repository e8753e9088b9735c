"""Whether there is room for another message: memory, and space for what goes to a file."""

from __future__ import annotations

from smtpproxy.config.limits import Limits
from smtpproxy.message.budget import Budget
from smtpproxy.wire.reply import Reply

NO_ROOM = Reply(452, "4.3.1", "Not enough room for the message now")
SPARE = 1.5
"""Times a message's size that must be free on disk before it is begun."""


class Room:
    """What is left. ``free`` is space on the disk in octets, looked at several times a second."""

    __slots__ = ("_floor", "_held", "budget", "free")

    def __init__(self, limits: Limits) -> None:
        self.budget = Budget(limits.memory)
        self.free = float("inf")
        self._held = limits.message_memory
        self._floor = limits.free_disk

    def lacks(self, size: int) -> str:
        """What is too little for a message of this size (0: unknown), for the log; "" when there is room."""
        if not self.budget.fits(min(size, self._held)):
            return f"[limits] memory: {self.budget.used + self.budget.beside} octets are in use"
        if self._floor and self.free < self._floor + SPARE * size:
            return f"[limits] free_disk: {self.free:.0f} octets are free"
        return ""
