"""What can be wrong with a rule's file before it is live."""

from __future__ import annotations

from dataclasses import dataclass

from greenlet import GreenletExit


class RuleError(Exception):
    """Something is wrong with a rule: `text` says what, `at` is "file:line" or "file" where that is known.

    `frames` are "file:line in function", outermost first, where its code was running.
    """

    def __init__(self, text: str, at: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.at = at
        self.frames: tuple[str, ...] = ()


class RuleTimeout(BaseException):
    """Thrown into a rule that is over its wall budget.

    Not an Exception, so that `except Exception` does not swallow it.
    """

    why = "over its wall budget"


class CpuTimeout(RuleTimeout):
    """Thrown into a rule that is over its CPU budget."""

    why = "over its CPU budget"


class Ended(GreenletExit):
    """Thrown into a greenlet of ours that runs rules, to end it: the one thing that passes through them, and is no failure."""


class Tripped(Exception):
    """Raised in place of a rule that the circuit breaker has taken out; str() says why."""


class FolderRefused(Exception):
    """The folder of rules must not be used."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a file, as it is now, is not live. `kept` is the version that goes on in its place, "" when there is none.

    None: what is wrong is not in a file, and costs no rule its place.
    """

    file: str
    at: str
    text: str
    kept: str | None = ""

    def __str__(self) -> str:
        told = f"{self.at or self.file}: {self.text}"
        if self.kept is None:
            return told
        return f"{told} ({f'version {self.kept} goes on' if self.kept else 'nothing runs in its place'})"
