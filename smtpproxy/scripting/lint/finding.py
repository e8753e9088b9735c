"""One thing that is probably a mistake."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """`line` counts from 1; 0 when it is no line's fault."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


def verdict_dropped(file: str, line: int, kind: str) -> Finding:
    """The classic: the words of a refusal, and nobody is refused."""
    return Finding(file, line, f"{kind}() decides nothing where it stands: write `return {kind}(...)`")


def never_read(file: str, line: int, name: str) -> Finding:
    return Finding(file, line, f'setting "{name}" is declared and never read')
