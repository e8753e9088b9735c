"""Values that nobody reads again: settings of type Secret, and what traces and logs show instead of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

HIDDEN: Final = "***"
SHORTEST: Final = 4
"""A shorter one stands in too many other words to be looked for."""


class Secret(str):
    """A text that is used as any other, and shown by no trace and no log."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"


def redacted(text: str, hidden: Iterable[str]) -> str:
    """The text without these."""
    for secret in hidden:
        if len(secret) >= SHORTEST and secret in text:
            text = text.replace(secret, HIDDEN)
    return text
