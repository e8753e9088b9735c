"""What is wrong with a configuration, told so that the operator can mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `file` is its name, `key` the dotted path ("" when none); `line` counts from 1, 0 is unknown."""

    file: str
    key: str
    text: str
    suggestion: str = ""
    line: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file
        told = ": ".join(part for part in (place, self.key, self.text) if part)
        return f"{told}; {self.suggestion}" if self.suggestion else told


class ConfigErrors(Exception):
    """The configuration cannot be used. `problems` holds every mistake that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """'did you mean "x"?', or which words there are, or "" when there are none."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"there is {', '.join(words)}" if words else ""
