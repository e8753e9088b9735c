"""How much memory the messages of a process may hold together: bodies, edits, and what else is told."""

from __future__ import annotations


class Budget:
    """Octets in use, and how many there may be (``limit``, 0: no limit)."""

    __slots__ = ("beside", "limit", "used")

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.used = 0
        """By messages: what their shares hold."""
        self.beside = 0
        """By others, who say so now and then."""

    def fits(self, octets: int) -> bool:
        """Whether so much more may be held."""
        return not self.limit or self.used + self.beside + octets <= self.limit


class Share:
    """What one message holds of a budget; given back when nobody has it any more."""

    __slots__ = ("_budget", "octets")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.octets = 0

    def grow(self, octets: int) -> bool:
        """Hold so much more; False, and nothing has changed, when there is no room for it."""
        if not self._budget.fits(octets):
            return False
        self._budget.used += octets
        self.octets += octets
        return True

    def __del__(self) -> None:
        self._budget.used -= self.octets
