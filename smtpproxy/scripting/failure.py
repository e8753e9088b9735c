"""A rule failed: who is told what.

The peer reads generic text and the trace id, the log has file, line, type and text, the trace the frames of the
author's own files.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from smtpproxy.facts.missing import RULES
from smtpproxy.scripting.errors import RuleError, RuleTimeout
from smtpproxy.scripting.verdict import Verdict

if TYPE_CHECKING:
    from smtpproxy.scripting.runner import Call, Entry

MODULE_PREFIX = RULES
"""Frames of other modules are not the author's."""


TEXT_LIMIT = 1000
"""Characters of an error's text that are worth keeping."""

# as the interpreter has them: a rule's own class may say what it likes
_NAME: Callable[[type], str] = type.__dict__["__name__"].__get__
_TRACEBACK: Callable[[BaseException], TracebackType | None] = BaseException.__dict__["__traceback__"].__get__


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
        """`at` is where the error was if the error does not know. Raises nothing, whatever the error's class is up to."""
        frames = author_frames(_TRACEBACK(error))
        try:
            if _is(error, RuleError):
                frames = error.frames  # type: ignore[attr-defined]
            place = _place(error) or _last(frames, at)
            return cls(place, _text(error), frames, _is(error, RuleTimeout))
        except BaseException:
            return cls(_last(frames, at), type_name(error), frames, False)


def type_name(thing: object) -> str:
    """The name of its class, whatever that class says of itself."""
    return _NAME(type(thing))


def rule_error(error: BaseException, file: str) -> RuleError:
    """What the code of a rule raised while it was loaded, as the error of this file."""
    failure = Failure.of(error, at=file)
    return RuleError(error.text if _is(error, RuleError) else failure.error, failure.at)  # type: ignore[attr-defined]


def _is(error: BaseException, kind: type[BaseException]) -> bool:
    """isinstance() would ask the error itself."""
    return issubclass(type(error), kind)


def _last(frames: tuple[str, ...], at: str) -> str:
    """The innermost in a file; code that a rule has made up stands in none."""
    return next((frame.split(" ")[0] for frame in reversed(frames) if not frame.startswith("<")), at)


def _text(error: Any) -> str:
    if _is(error, RuleError):
        return f"{type_name(error)}: {error.text}"
    if _is(error, RuleTimeout):
        return f"Timeout: {error.why}"
    if _is(error, SyntaxError):
        return f"{type_name(error)}: {error.msg}"[:TEXT_LIMIT]
    try:
        return f"{type_name(error)}: {error}"[:TEXT_LIMIT].removesuffix(": ")
    except BaseException:  # the rule's own exception class, with a __str__ that fails too, or does not end
        return type_name(error)


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
    verdict.given_by(entry.rule.name, entry.hook.name)
    return verdict


def _place(error: Any) -> str:
    if _is(error, RuleError):
        return str(error.at)
    if _is(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}:{int(error.lineno or 0)}"
    return ""


def _short(filename: str) -> str:
    return filename.rsplit("/", 1)[-1]
