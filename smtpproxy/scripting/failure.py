"""A rule failed: who is told what.

The peer reads generic text and the trace id, the log has file, line, type and text, the trace the frames of the
author's own files.
"""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from smtpproxy.scripting.errors import RuleError, RuleTimeout
from smtpproxy.scripting.verdict import Verdict

if TYPE_CHECKING:
    from smtpproxy.scripting.runner import Call, Entry

MODULE_PREFIX = "rules@"
"""Python rule files are modules of such a name; frames of other modules are not the author's."""


class Nonsense(Exception):
    """A hook answered what no hook, or not this one, may answer."""


class Failure(NamedTuple):
    """`at` is "file:line" in the author's files ("" when none is on the stack); `frames` has the outermost first."""

    at: str
    error: str
    frames: tuple[str, ...]
    timeout: bool

    @classmethod
    def of(cls, error: BaseException, at: str = "") -> Failure:
        """`at` is where the error was if the error does not know."""
        frames = error.frames if isinstance(error, RuleError) else author_frames(error.__traceback__)
        place = _place(error) or (frames[-1].split(" ")[0] if frames else at)
        return cls(place, _text(error), frames, isinstance(error, RuleTimeout))


def rule_error(error: BaseException, file: str) -> RuleError:
    """What the code of a rule raised while it was loaded, as the error of this file."""
    failure = Failure.of(error, at=file)
    return RuleError(error.text if isinstance(error, RuleError) else failure.error, failure.at)


def _text(error: BaseException) -> str:
    if isinstance(error, RuleError):
        return f"{type(error).__name__}: {error.text}"
    if isinstance(error, RuleTimeout):
        return f"Timeout: {error.why}"
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"
    try:
        return f"{type(error).__name__}: {error}".removesuffix(": ")
    except Exception:  # the rule's own exception class, with a __str__ that fails too
        return type(error).__name__


def author_frames(tb: TracebackType | None) -> tuple[str, ...]:
    """`FILE:LINE in FUNCTION` for the frames that run a rule file."""
    return tuple(
        f"{_short(frame.f_code.co_filename)}:{line} in {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(tb)
        if str(frame.f_globals.get("__name__", "")).startswith(MODULE_PREFIX)
    )


def verdict_for(declared: str, call: Call, entry: Entry) -> Verdict | None:
    """The verdict that stands for a failed rule; None goes on with the chain."""
    if declared == "continue":
        return None
    if declared == "quarantine" and call.mail is not None and entry.quarantine:
        call.mail.hold(entry.quarantine)
        return None
    if declared == "deny":
        verdict = Verdict("deny", 550, "5.7.1", f"Refused: a rule failed, id {call.id}")
    else:
        verdict = Verdict("defer", 451, "4.3.0", f"Temporary failure in a rule, id {call.id}")
    verdict.rule = entry.rule.name
    return verdict


def _place(error: BaseException) -> str:
    if isinstance(error, RuleError):
        return error.at
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}:{error.lineno or 0}"
    return ""


def _short(filename: str) -> str:
    return filename.rsplit("/", 1)[-1]
