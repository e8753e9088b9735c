"""What a virus scanner found, and the error when it could not look."""

from __future__ import annotations

from smtpproxy.facts.missing import Fact, put


class ScanError(Exception):
    """Nobody has scanned it: no server answered, or what it answered was an error. Never to be taken for clean."""


class Scan(Fact):
    """What a scanner said. What it did not look at is neither infected nor clean."""

    __slots__ = ("name", "server", "too_large")
    _noun = "scan"
    name: str
    """What was found, as the scanner calls it; "" when nothing was."""
    too_large: bool
    """It is larger than the scanner takes: nobody has looked at it."""
    server: str
    """Who scanned it; "" when nobody did."""

    def __init__(self, name: str = "", *, too_large: bool = False, server: str = "") -> None:
        put(self, "name", name)
        put(self, "too_large", too_large)
        put(self, "server", server)

    @property
    def infected(self) -> bool:
        """Something was found: `name` says what."""
        return bool(self.name)

    @property
    def clean(self) -> bool:
        """It was scanned, and nothing was found."""
        return not self.name and not self.too_large

    @property
    def value(self) -> str:
        """In the words of results: fail (infected), pass (clean), skip (not looked at)."""
        return "fail" if self.name else "skip" if self.too_large else "pass"

    def __str__(self) -> str:
        return f"infected: {self.name}" if self.name else "too large" if self.too_large else "clean"
