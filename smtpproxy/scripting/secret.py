"""Values that nobody reads again: settings of type Secret, and what traces and logs show instead of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

HIDDEN: Final = "***"
SHORTEST: Final = 4
"""A shorter one stands in too many other words to be looked for."""

_WORD: Final = r"(?:\w*_)?(?:key|password|secret|token)s?"
_NAME: Final = re.compile(_WORD, re.IGNORECASE)
_ASSIGNED: Final = re.compile(rf"""\b{_WORD}["']?\]?\s*[:=]|:\s*Secret\b""", re.IGNORECASE)
_TEXT: Final = re.compile(r"""(["']).*?\1""")


class Secret(str):
    """A text that is used as any other, and shown by no trace and no log."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"


def secret_name(name: object) -> bool:
    """Settings of such names are taken for secrets, whatever their type: Lua has no types."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def secrets(values: Mapping[str, Any]) -> Iterator[str]:
    """What settings hold that must never be written, however deep it lies."""
    for name, value in values.items():
        yield from _within(value, secret_name(name))


def _within(value: Any, named: bool) -> Iterator[str]:
    if isinstance(value, Secret) or (named and isinstance(value, str)):
        yield str(value)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _within(item, named or secret_name(name))
    elif isinstance(value, list | tuple | AbstractSet):
        for item in value:
            yield from _within(item, named)


def redacted(text: str, hidden: Iterable[str]) -> str:
    """The text without these."""
    for secret in hidden:
        if len(secret) >= SHORTEST and secret in text:
            text = text.replace(secret, HIDDEN)
    return text


def without_literals(line: str) -> str:
    """A line of a rule's file that gives something of a secret's name a text: without the text."""
    found = _ASSIGNED.search(line)
    return line[: found.end()] + _TEXT.sub(f'"{HIDDEN}"', line[found.end() :]) if found else line


class Hiding:
    """Takes out what it has learned of, wherever it stands: a rule may have put it into a question, an error or a reply.

    Nothing is forgotten: what is written now may be of a version that is gone. `pattern` is None as long as there is
    nothing to hide.
    """

    __slots__ = ("_known", "pattern")

    def __init__(self) -> None:
        self._known: set[str] = set()
        self.pattern: re.Pattern[str] | None = None

    def learn(self, words: Iterable[str]) -> None:
        new = {word for word in words if len(word) >= SHORTEST} - self._known
        if new:
            self._known |= new
            self.pattern = re.compile("|".join(map(re.escape, sorted(self._known, key=len, reverse=True))))

    def __call__(self, text: str) -> str:
        return self.pattern.sub(HIDDEN, text) if self.pattern is not None else text

    def fields(self, fields: dict[str, Any]) -> dict[str, Any]:
        """A record of the log, whatever its values are."""
        return {name: self._value(value) for name, value in fields.items()}

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(item) for item in value]
        if isinstance(value, dict):
            return {name: self._value(item) for name, item in value.items()}
        text = str(value)
        shown = self(text)
        return value if shown == text else shown
